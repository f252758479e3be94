"""YAML text -> plain values and the place of each, by YAML 1.2's core schema.

PyYAML resolves by YAML 1.1, where the key `on` is True and 22:30 a number, takes a duplicate key's last value and expands aliases without a
bound. So it only parses here, and the values are made from its events.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from controller.domain.problems import Place, Problem

MAX_SIZE = 500_000
"""What a file may expand to: each value counts 1, and 1 for each 64 characters. 10,000 images are some 60,000; an alias bomb is billions."""

MAX_DEPTH = 64
"""Levels of mappings and lists. The format itself needs eight."""

MAX_SHOWN = 60
"""Characters of a value that a problem quotes."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2.2, 5.1
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_CORE = re.compile(  # YAML 1.2.2, 10.3.2; a number longer than any that is meant is an Id that lacks quotes
    r"(?P<null>~|null|Null|NULL|)|(?P<true>true|True|TRUE)|(?P<false>false|False|FALSE)|(?P<int>[-+]?[0-9]{1,18})"
    r"|(?P<based>0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15})|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?)"
)


_Event: TypeAlias = Any  # PyYAML's two parsers share the events' attributes; the stubs name them on no common base.


@dataclass(slots=True, eq=False)
class Node:
    """A value and where it stands, counted from 1. `text` is a scalar as it is written; `fields` and `items` are what is below it."""

    line: int
    column: int
    value: Any = None
    text: str | None = None
    fields: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)

    def below(self, step: str | int) -> Node | None:
        """The node of a field or an item."""
        if isinstance(step, str):
            return self.fields[step][1] if step in self.fields else None
        return self.items[step] if 0 <= step < len(self.items) else None


@dataclass(slots=True, eq=False)
class Document:
    """One YAML document of a file."""

    file: str
    root: Node

    @property
    def value(self) -> object:
        """What it says, as plain values."""
        return self.root.value

    def place(self, *loc: str | int) -> Place:
        """The place of the part at that path; of the nearest part above it when there is none."""
        node, found = self._nearest(loc)
        return Place(self.file, node.line, node.column, path_words(found))

    def key_place(self, *loc: str | int) -> Place:
        """The place of a field's key, for one that should not be there."""
        node, found = self._nearest(loc[:-1])
        key = node.fields[str(loc[-1])][0] if len(found) == len(loc) - 1 and loc[-1] in node.fields else node
        return Place(self.file, key.line, key.column, path_words(loc))

    def node(self, *loc: str | int) -> Node | None:
        """The node at that path; None when there is none."""
        node, found = self._nearest(loc)
        return node if found == loc else None

    def _nearest(self, loc: tuple[str | int, ...]) -> tuple[Node, tuple[str | int, ...]]:
        node = self.root
        for i, step in enumerate(loc):
            below = node.below(step)
            if below is None:
                return node, loc[:i]
            node = below
        return node, loc


def path_words(loc: tuple[str | int, ...]) -> str:
    """A path as people write it: spec.hosts[0].engine."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step[:MAX_SHOWN]}" for step in loc).removeprefix(".")


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Every document of a text that is not empty, and all that is wrong with its YAML."""
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        before = text[: bad.start()]
        place = Place(file, before.count("\n") + 1, bad.start() - before.rfind("\n"))
        return [], [Problem(place, f"the control character U+{ord(bad.group()):04X}", "a text file")]
    composer = _Composer(text, file)
    return composer.read(), composer.problems


class _StopError(Exception):
    """Nothing further can be read of this file; the problem is told already."""


class _Composer:
    """Makes nodes from the parser's events. What is wrong becomes problems; a value that can't be made is None."""

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._text = text
        self._parser = _LOADER(text)
        self._size = 0
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()

    def read(self) -> list[Document]:
        """All documents until the end, or until what can't be read."""
        found: list[Document] = []
        try:
            while not isinstance(event := self._parser.get_event(), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors.clear()
                    self._open.clear()
                    root = self._node(self._parser.get_event(), 0, "")
                    if root.text is None or root.value is not None:
                        found.append(Document(self._file, root))
        except _StopError:
            pass
        except yaml.YAMLError as error:
            self._no_yaml(error)
        finally:
            self._parser.dispose()
        return found

    def _no_yaml(self, error: yaml.YAMLError) -> None:
        marked = error if isinstance(error, yaml.MarkedYAMLError) else yaml.MarkedYAMLError(problem=str(error))
        mark = marked.problem_mark or marked.context_mark
        lines = _LINE_END.split(self._text)
        if mark is None or mark.line >= len(lines):  # The parser counts the end of the text as a line.
            place = Place(self._file, len(lines), len(lines[-1]) + 1)
        else:
            place = Place(self._file, mark.line + 1, mark.column + 1)
        why = " ".join(part for part in (marked.problem, marked.context) if part)
        self.problems.append(Problem(place, f"no YAML here: {why}", "YAML 1.2, indented with spaces"))

    def _node(self, event: _Event, depth: int, shown: str) -> Node:
        """The node that begins with this event, `depth` levels down; `shown` is its path."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, shown)
        before = self._size
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1)
        self._grow(1, node, shown)
        if depth >= MAX_DEPTH and not isinstance(event, yaml.ScalarEvent):
            self._stop(node, f"more than {MAX_DEPTH} levels of mappings and lists", f"at most {MAX_DEPTH}", shown)
        if event.anchor is not None:
            self._open.add(event.anchor)
        if event.tag is not None:
            self._problem(node, f"the tag {event.tag[:MAX_SHOWN]!r}", "a value without a tag; quotes make a text", shown)
        self._fill(node, event, depth, shown)
        if event.anchor is not None:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = (node, self._size - before)
        return node

    def _fill(self, node: Node, event: _Event, depth: int, shown: str) -> None:
        if isinstance(event, yaml.ScalarEvent):
            node.text = event.value
            self._grow(len(event.value) // 64, node, shown)
            if event.tag is None:
                node.value = event.value if event.style else _plain(event.value)  # Quoted and block scalars are texts.
        elif isinstance(event, yaml.SequenceStartEvent):
            while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
                node.items.append(self._node(event, depth + 1, f"{shown}[{len(node.items)}]"))
            node.value = [item.value for item in node.items]
        else:
            while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
                self._field(node, event, depth + 1, shown)
            node.value = {name: value.value for name, (_, value) in node.fields.items()}

    def _field(self, mapping: Node, event: _Event, depth: int, shown: str) -> None:
        key = self._node(event, depth, shown)
        name = key.value if isinstance(event, yaml.ScalarEvent) else None
        below = f"{shown}.{key.text[:MAX_SHOWN]}".removeprefix(".") if key.text else shown
        value = self._node(self._parser.get_event(), depth, below)
        if name == "<<" and not event.style:
            self._problem(key, "a merge key", "the fields themselves, or an alias for a whole value", shown)
        elif not isinstance(name, str):
            said = f"the key {key.text[:MAX_SHOWN]!r}" if isinstance(event, yaml.ScalarEvent) and key.text else "a key"
            self._problem(key, f"{said} that is no text", "a text; put it in quotes if it is one", shown)
        elif name in mapping.fields:
            self._problem(key, f"the key {name[:MAX_SHOWN]!r} a second time", f"it once; the first is in line {mapping.fields[name][0].line}", below)
        else:
            mapping.fields[name] = (key, value)

    def _alias(self, event: _Event, shown: str) -> Node:
        here = Node(event.start_mark.line + 1, event.start_mark.column + 1)
        if event.anchor in self._open:
            self._problem(here, f"the alias *{event.anchor} inside its own anchor", "an alias to a value that ends before it", shown)
            return here
        if event.anchor not in self._anchors:
            self._problem(here, f"the alias *{event.anchor}", f"an anchor &{event.anchor} above it in the same document", shown)
            return here
        node, size = self._anchors[event.anchor]
        self._grow(size, here, shown)
        return node

    def _grow(self, size: int, node: Node, shown: str) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            self._stop(node, f"more than {MAX_SIZE} values, counted with aliases expanded", "fewer; split the file if this is no mistake", shown)

    def _stop(self, node: Node, found: str, expected: str, shown: str) -> None:
        self._problem(node, found, expected, shown)
        raise _StopError

    def _problem(self, node: Node, found: str, expected: str, shown: str) -> None:
        self.problems.append(Problem(Place(self._file, node.line, node.column, shown), found, expected))


def _plain(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core schema."""
    match = _CORE.fullmatch(text)
    if match is None:
        return text
    kind = match.lastgroup
    if kind == "null":
        return None
    if kind in {"true", "false"}:
        return kind == "true"
    if kind == "float":
        number = float(text)
        return number if math.isfinite(number) else text
    return int(text, 0 if kind == "based" else 10)
