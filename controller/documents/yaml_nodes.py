"""YAML text -> plain values and the place of each, by YAML 1.2's core schema.

PyYAML resolves by YAML 1.1, where the key `on` is True and 22:30 a number; and it expands aliases without a bound. So it only composes the
node tree here, and the values are made from that.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from controller.domain.problems import Place, Problem

MAX_VALUES = 500_000
"""Values that a document may expand to: 10,000 images take some 50,000; an alias bomb takes billions."""

MAX_DEPTH = 64

Path = tuple[str | int, ...]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_STANDARD = "tag:yaml.org,2002:"

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Document:
    """One YAML document: its plain value, and the node of each part for its place."""

    file: str
    value: Any
    node: yaml.Node
    problems: list[Problem] = field(default_factory=list)

    def place(self, *loc: str | int) -> Place:
        """The place of the part at that path; of the nearest part above it that exists."""
        node, shown = self.node, ""
        for step in loc:
            below = _below(node, step)
            if below is None:
                continue  # Pydantic's paths also name variants of a union, which are no part of the file.
            node = below
            shown += f"[{step}]" if isinstance(step, int) else f"{'.' * bool(shown)}{step}"
        return self._at(node, shown)

    def key_place(self, *loc: str | int) -> Place:
        """The place of the key itself, for a field that should not be there."""
        *above, last = loc
        node = self.node
        for step in above:
            node = _below(node, step) or node
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == last:
                return self._at(key, path_words(loc))
        return self.place(*loc)

    def _at(self, node: yaml.Node, shown: str) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1, shown)


def path_words(loc: tuple[str | int, ...]) -> str:
    """A path as people write it: spec.hosts[0].engine."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Every document of a text that is not empty, and what is wrong with its YAML."""
    loader = _Loader(text)
    found: list[Document] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            document = Document(file, None, node)
            _Values(document).make()
            if not (isinstance(node, yaml.ScalarNode) and document.value is None):
                found.append(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        return found, [Problem(place, f"{error.problem or error.context or error}", "YAML")]
    except (yaml.YAMLError, RecursionError) as error:
        return found, [Problem(Place(file), f"{_first_line(error)}", "YAML")]
    finally:
        loader.dispose()
    return found, [problem for document in found for problem in document.problems]


class _Values:
    """Makes a document's plain value; what is wrong becomes problems at their places."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._sizes: dict[int, int] = {}

    def make(self) -> None:
        document = self._document
        try:
            if self._size(document.node, ()) > MAX_VALUES:
                self._problem(document.node, f"aliases that expand to more than {MAX_VALUES} values", "a file without an alias bomb")
                return
        except _TooDeepError as error:
            self._problem(error.node, "an alias to itself" if error.itself else f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels")
            return
        document.value = self._value(document.node, "")

    def _size(self, node: yaml.Node, above: tuple[int, ...]) -> int:
        """How many values a node expands to, counted without expanding it."""
        if id(node) in above or len(above) > MAX_DEPTH:
            raise _TooDeepError(node, itself=id(node) in above)
        known = self._sizes.get(id(node))
        if known is None:
            parts = _parts(node)
            known = self._sizes[id(node)] = 1 + sum(self._size(part, (*above, id(node))) for part in parts) if parts else 1
        return known

    def _value(self, node: yaml.Node, shown: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, shown)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, f"{shown}[{i}]") for i, item in enumerate(node.value)]
        return self._scalar(node, shown)

    def _mapping(self, node: yaml.MappingNode, shown: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                self._problem(key, "a merge key" if isinstance(key, yaml.ScalarNode) else "a key that is no text", "a plain field name", shown)
                continue
            name = str(key.value)
            below = f"{shown}.{name}".removeprefix(".")
            if name in made:
                self._problem(key, f"the key {name!r} a second time", f"it once; the first is in line {lines[name]}", below)
                continue
            lines[name] = key.start_mark.line + 1
            made[name] = self._value(value, below)
        return made

    def _scalar(self, node: yaml.ScalarNode, shown: str) -> Any:
        text, tag = node.value, node.tag
        if not tag.startswith(_STANDARD):
            self._problem(node, f"the tag {tag!r}", "plain YAML without tags", shown)
            return None
        if node.style is not None and node.style != "":  # Quoted and block scalars are strings.
            return text
        return _plain(text)

    def _problem(self, node: yaml.Node, found: str, expected: str, shown: str = "") -> None:
        mark = node.start_mark
        self._document.problems.append(Problem(Place(self._document.file, mark.line + 1, mark.column + 1, shown), found, expected))


class _TooDeepError(Exception):
    def __init__(self, node: yaml.Node, *, itself: bool) -> None:
        super().__init__()
        self.node = node
        self.itself = itself


def _plain(text: str) -> Any:
    """A plain scalar by the core schema (YAML 1.2.2, 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) < 20:  # noqa: PLR2004 - longer ones are Ids that lack quotes, not numbers
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _below(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: yaml.Node = node.value[step]
        return item
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["something that is no YAML"])[0][:200]
