"""Files and folders -> checked documents that know where each field stands; every problem of every file at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from controller.documents import explain
from controller.documents.text_files import read_text
from controller.documents.yaml_nodes import Document, read_documents
from controller.domain.problems import DocumentsError, Place, Problem
from controller.domain.spec import API_VERSION, ImageSet, Wharf

_KINDS: dict[str, type[Wharf | ImageSet]] = {"Wharf": Wharf, "ImageSet": ImageSet}

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
        """The place of a field, by its path in the file's words: ("spec", "images", 3, "name"). Of what is around it when it is not said."""
        return self.document.place(*loc)

    def resolve(self, path: str) -> str:
        """The absolute form of a path that the document says; relative ones begin at the folder of its file."""
        return os.path.normpath(Path(self.file).absolute().parent / path)


@dataclass(frozen=True)
class Documents:
    """All documents of some files, in their order, and the files that were read, absolute."""

    wharfs: tuple[Located[Wharf], ...]
    sets: tuple[Located[ImageSet], ...]
    files: tuple[Path, ...]


def load(paths: Sequence[Path]) -> Documents:
    """Read files, and every *.yaml and *.yml in folders; what is given twice is read once.

    Raises DocumentsError with all problems of all files: unreadable, no YAML, unknown fields, values that do not fit.
    """
    reader = _Reader()
    files = reader.files(paths)
    for file in files:
        reader.read(file)
    if reader.problems:
        raise DocumentsError(reader.problems)
    return Documents(tuple(reader.wharfs), tuple(reader.sets), tuple(file.absolute() for file in files))


class _Reader:
    """Collects documents and problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.wharfs: list[Located[Wharf]] = []
        self.sets: list[Located[ImageSet]] = []

    def files(self, paths: Sequence[Path]) -> list[Path]:
        """Every file once, in the order given; those of a folder sorted."""
        found: dict[str, Path] = {}
        for path in paths:
            inside = sorted(self._below(path)) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path.is_dir raises on a name that is too long
            if not inside:
                self._problem(path, "a folder without *.yaml files", "desired-state files")
            for file in inside:
                found.setdefault(os.path.realpath(file), file)
        return list(found.values())

    def read(self, file: Path) -> None:
        """Every document of a file."""
        text = read_text(file)
        if isinstance(text, Problem):
            self.problems.append(text)
            return
        documents, problems = read_documents(text, str(file))
        if not documents and not problems:
            self._problem(file, "nothing", "documents of kind Wharf or ImageSet")
        # What YAML could not say is None in the values: its place has its problem already.
        told = {(problem.place.line, problem.place.column) for problem in problems}
        for document in documents:
            problems.extend(each for each in self._check(document) if (each.place.line, each.place.column) not in told)
        self.problems.extend(problems)

    def _below(self, folder: Path) -> Iterator[Path]:
        """The files in a folder, through links to folders too. One that can't be listed is a problem, never an empty one (law 2).

        Hidden ones are left out: Kubernetes keeps a mounted folder's versions in hidden folders, beside links to the files.
        """
        seen: set[str] = set()
        for top, folders, names in os.walk(folder, onerror=self._unreadable, followlinks=True):
            real = os.path.realpath(top)
            folders[:] = () if real in seen else [name for name in folders if not name.startswith(".")]
            if real not in seen:
                yield from (Path(top, name) for name in names if name.endswith((".yaml", ".yml")) and not name.startswith("."))
            seen.add(real)

    def _unreadable(self, error: OSError) -> None:
        self._problem(Path(str(error.filename)), error.strerror or "a folder that can't be read", "a folder that can be listed")

    def _check(self, document: Document) -> list[Problem]:
        """Keep a document that fits its model; the problems of one that does not."""
        said = document.value
        if not isinstance(said, dict):
            return [Problem(document.place(), explain.shown(document.node()), "a mapping with apiVersion, kind, metadata and spec")]
        kind = said.get("kind")
        model = _KINDS.get(kind) if isinstance(kind, str) else None
        if model is None:
            expected = {"apiVersion": repr(API_VERSION), "kind": " or ".join(map(repr, _KINDS))}
            wrong = expected if said.get("apiVersion") != API_VERSION else ["kind"]
            return [Problem(document.place(name), explain.shown(document.node(name)), f"{name}: {expected[name]}") for name in wrong]
        try:
            value = model.model_validate(said)
        except ValidationError as error:
            return explain.problems(document, model, error)
        if isinstance(value, Wharf):
            self.wharfs.append(Located(value, document))
        else:
            self.sets.append(Located(value, document))
        return []

    def _problem(self, path: Path, found: str, expected: str) -> None:
        self.problems.append(Problem(Place(str(path)), found, expected))
