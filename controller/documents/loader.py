"""Files and folders -> checked documents that know where each field stands; every problem of every file at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from controller.documents.yaml_nodes import Document, path_words, read_documents
from controller.domain.problems import DocumentsError, Place, Problem
from controller.domain.spec import API_VERSION, ImageSet, Wharf

MAX_FILE = 16 << 20
"""Bytes. Ten thousand images take about one megabyte."""

_KINDS: dict[str, type[Wharf] | type[ImageSet]] = {"Wharf": Wharf, "ImageSet": ImageSet}

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Located(Generic[ValueT]):
    """A document and where its fields stand. Two are equal when they say the same, wherever it stands."""

    value: ValueT
    document: Document = field(compare=False, repr=False)

    @property
    def file(self) -> str:
        """The file, as it was given."""
        return self.document.file

    def place(self, *loc: str | int) -> Place:
        """The place of a field, by its path in the file's words."""
        return self.document.place(*loc)


@dataclass(frozen=True)
class Documents:
    """All documents of some files, and the files that were read."""

    wharfs: tuple[Located[Wharf], ...]
    sets: tuple[Located[ImageSet], ...]
    files: tuple[Path, ...]


def load(paths: Sequence[Path]) -> Documents:
    """Read files, and every *.yaml and *.yml in folders.

    Raises DocumentsError with all problems of all files: unreadable, no YAML, unknown fields, values that do not fit.
    """
    problems: list[Problem] = []
    files = list(_files(paths, problems))
    wharfs: list[Located[Wharf]] = []
    sets: list[Located[ImageSet]] = []
    for file in files:
        for document in _documents(file, problems):
            found = _checked(document, problems)
            if isinstance(found, Wharf):
                wharfs.append(Located(found, document))
            elif found is not None:
                sets.append(Located(found, document))
    if problems:
        raise DocumentsError(problems)
    return Documents(tuple(wharfs), tuple(sets), tuple(file.absolute() for file in files))


def _files(paths: Iterable[Path], problems: list[Problem]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        below = path.rglob("*")
        inside = sorted(p for p in below if p.suffix in {".yaml", ".yml"} and p.is_file() and not _hidden(p, path))
        if not inside:
            problems.append(Problem(Place(str(path)), "a folder without *.yaml files", "desired-state files"))
        yield from inside


def _hidden(path: Path, top: Path) -> bool:
    """Kubernetes keeps the versions of a mounted folder in hidden folders beside the links to them."""
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _documents(file: Path, problems: list[Problem]) -> list[Document]:
    text = _text(file, problems)
    if text is None:
        return []
    documents, found = read_documents(text, str(file))
    problems.extend(found)
    if not documents and not found:
        problems.append(Problem(Place(str(file)), "nothing", "documents of kind Wharf or ImageSet"))
    return [document for document in documents if document.value is not None or not document.problems]


def _text(file: Path, problems: list[Problem]) -> str | None:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            problems.append(Problem(Place(str(file)), f"more than {MAX_FILE >> 20} MiB", "a desired-state file"))
            return None
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(Problem(Place(str(file), line), "bytes that are no UTF-8", "a text file"))
    except OSError as error:
        problems.append(Problem(Place(str(file)), error.strerror or "a file that can't be read", "a file that can be read"))
    return None


def _checked(document: Document, problems: list[Problem]) -> Wharf | ImageSet | None:
    said = document.value
    if not isinstance(said, dict):
        problems.append(Problem(document.place(), _shown(said), "a mapping with apiVersion, kind, metadata and spec"))
        return None
    if said.get("apiVersion") != API_VERSION:
        problems.append(Problem(document.place("apiVersion"), _shown(said.get("apiVersion")), f"apiVersion: {API_VERSION}"))
        return None
    kind = _KINDS.get(said["kind"]) if isinstance(said.get("kind"), str) else None
    if kind is None:
        problems.append(Problem(document.place("kind"), _shown(said.get("kind")), "kind: Wharf or ImageSet"))
        return None
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        problems.extend(_problem(document, kind, each) for each in error.errors(include_url=False))
    return None


def _problem(document: Document, kind: type[BaseModel], error: Any) -> Problem:
    loc: tuple[str | int, ...] = error["loc"]
    what, found = error["type"], _shown(error["input"])
    if what == "extra_forbidden":
        return Problem(document.key_place(*loc), f"the unknown field {loc[-1]!r}", _known_fields(kind, loc))
    if what == "missing":
        at = document.place(*loc[:-1])
        return Problem(Place(at.file, at.line, at.column, path_words(loc)), "nothing", f"the field {loc[-1]!r}")
    place = document.place(*loc)
    if what == "value_error":
        words = str(error["ctx"]["error"])
        found = "a combination that does not fit" if isinstance(error["input"], dict) else found
        return Problem(place, found, words.removeprefix("expected "))
    return Problem(place, found, _expected(error))


_WORDS = {
    "string_type": "a text; put it in quotes if it is one",
    "string_too_short": "a text that is not empty",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def _expected(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] in {"enum", "literal_error"}:
        return str(context["expected"])
    if error["type"] == "string_pattern_mismatch":
        return f"a text like {context['pattern']}"
    words: str = _WORDS.get(error["type"], error["msg"])
    return words[:1].lower() + words[1:]


def _known_fields(kind: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """The fields that may stand there, the nearest one first when it looks like a slip."""
    model: type[BaseModel] | None = kind
    for step in loc[:-1]:
        model = _model_below(model, step) if model and isinstance(step, str) else model
    if model is None:
        return "a known field"
    names = [info.alias or name for name, info in model.model_fields.items()]
    near = get_close_matches(str(loc[-1]), names, 1)
    return f"{near[0]!r}?" if near else f"one of {', '.join(names)}"


def _model_below(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    info = next((info for field_name, info in model.model_fields.items() if name in (info.alias, field_name)), None)
    return _first_model(info.annotation) if info else None


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in getattr(annotation, "__args__", ()) if (found := _first_model(each))), None)


def _shown(value: Any) -> str:
    """A found value in short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - as much as fits a line
