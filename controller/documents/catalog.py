"""A catalog: a folder of Dockerfile folders, each an image, with an image.yaml beside the Dockerfile that may say its name."""

from __future__ import annotations

import os
from pathlib import Path

from controller.documents.explain import shown
from controller.documents.text_files import read_text
from controller.documents.yaml_nodes import Document, read_documents
from controller.domain.compile import CatalogImage
from controller.domain.errors import InvalidReferenceError
from controller.domain.problems import Place, Problem
from controller.domain.reference import parse_local

_DOCKERFILE = "Dockerfile"
_ABOUT = "image.yaml"
_OURS = "tag"


def read_catalog(folder: Path) -> tuple[tuple[CatalogImage, ...], tuple[Problem, ...]]:
    """The images of a catalog by the names of their folders, and all that is wrong with it.

    A folder that can't be listed, or holds no image, is a problem and never an empty catalog (law 2). Only the folders right below it count, and of
    those not the hidden ones.
    """
    entries: dict[str, CatalogImage] = {}
    problems: list[Problem] = []
    for context in _contexts(folder.absolute(), problems):
        entry = _entry(context, problems)
        if entry is None:
            continue
        first = entries.setdefault(entry.name, entry)
        if first is not entry:
            problems.append(Problem(entry.place, f"the name {entry.name!r} a second time", f"one folder for one name; the first is at {first.place}"))
    if not entries and not problems:
        problems.append(Problem(Place(str(folder)), "no folder with a Dockerfile in it", "a catalog: a folder of Dockerfile folders"))
    return tuple(entries.values()), tuple(problems)


def read_entry(context: Path) -> tuple[CatalogImage | None, tuple[Problem, ...]]:
    """The image of one Dockerfile folder, given by its absolute path; None when there is a problem with its name."""
    problems: list[Problem] = []
    return _entry(context, problems), tuple(problems)


def _contexts(folder: Path, problems: list[Problem]) -> list[Path]:
    """The folders below that have a Dockerfile, sorted."""
    try:
        with os.scandir(folder) as listed:
            below = sorted(Path(each.path) for each in listed if not each.name.startswith(".") and each.is_dir())
    except OSError as error:
        problems.append(Problem(Place(str(folder)), error.strerror or str(error), "a folder that can be listed"))
        return []
    found: list[Path] = []
    for context in below:
        try:
            if (context / _DOCKERFILE).is_file():
                found.append(context)
        except OSError as error:
            problems.append(Problem(Place(str(context)), error.strerror or str(error), "a folder that can be read"))
    return found


def _entry(context: Path, problems: list[Problem]) -> CatalogImage | None:
    """The image of one folder; None when there is a problem with it, which is told."""
    before = len(problems)
    about = _about(context / _ABOUT, problems)
    tag = _text(about, _OURS, problems)
    if len(problems) > before:
        return None
    place = about.place(_OURS) if about is not None and tag else Place(str(context))
    if not tag and ":" in context.name:
        problems.append(Problem(place, f"the folder's name {context.name!r}", f"a repository's name; {_ABOUT} may say another one as `tag`"))
        return None
    try:
        name = str(parse_local(tag or context.name))
    except InvalidReferenceError as error:
        problems.append(Problem(place, error.found, error.expected if tag else f"{error.expected}; {_ABOUT} may say another one as `tag`"))
        return None
    return CatalogImage(name, str(context), place)


def _about(file: Path, problems: list[Problem]) -> Document | None:
    """What an image.yaml says; None when there is none, it says nothing, or it is no mapping. It is other people's: only `tag` is looked at."""
    try:
        if not file.is_file():
            return None
    except OSError as error:
        problems.append(Problem(Place(str(file)), error.strerror or str(error), "a file that can be read"))
        return None
    text = read_text(file, "a small file about one image")
    if isinstance(text, Problem):
        problems.append(text)
        return None
    documents, found = read_documents(text, str(file))
    problems.extend(problem for problem in found if not documents or _top(problem) in {"", _OURS})
    if documents and not isinstance(documents[0].value, dict):
        problems.append(Problem(documents[0].place(), shown(documents[0].node()), "a mapping with `tag`"))
        return None
    return documents[0] if documents else None


def _top(problem: Problem) -> str:
    """The field at the top of the file that a problem is in."""
    return problem.place.field.partition(".")[0].partition("[")[0]


def _text(about: Document | None, field: str, problems: list[Problem]) -> str:
    """A field's text; "" when it is not said."""
    node = about.node(field) if about is not None else None
    if about is None or node is None or (node.value is None and not node.text):
        return ""
    if not isinstance(node.value, str):
        problems.append(Problem(about.place(field), shown(node), "a text; put it in quotes if it is one"))
        return ""
    return node.value
