"""What a .dockerignore leaves out, by Docker's rules: globs over slash-separated paths, exceptions by `!`, the last match wins.

A pattern that matches a folder matches all below it. The rules are those of Docker's own matcher, which differ from Go's filepath.Match and from
.gitignore: a leading slash means nothing, `*` and `?` stop at a slash, `**` is any number of folders, none too, and `**` with a text right behind
it is any path that ends so. Matching takes time in proportion to pattern and path, whoever wrote them; regular expressions would not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


class BadPatternError(ValueError):
    """A pattern that Docker would refuse. `line` counts from 1."""

    def __init__(self, line: int, pattern: str, why: str) -> None:
        super().__init__(f"line {line}: {pattern[:60]!r}: {why}")
        self.line = line


Places = set[int]
"""Where in a path a match may go on."""


@dataclass(frozen=True, slots=True)
class _Text:
    """Exactly this."""

    text: str

    def after(self, path: str, places: Places) -> Places:
        """Where each match that goes on at these places may go on behind this."""
        return {place + len(self.text) for place in places if path.startswith(self.text, place)}


@dataclass(frozen=True, slots=True)
class _Class:
    """One character of some ranges, or with `negated` none of them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def after(self, path: str, places: Places) -> Places:
        """As in _Text."""
        return {place + 1 for place in places if place < len(path) and self._has(path[place])}

    def _has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) is not self.negated


_ANY = _Class((("/", "/"),), negated=True)
"""`?`"""


@dataclass(frozen=True, slots=True)
class _Star:
    """Any characters but slashes."""

    def after(self, path: str, places: Places) -> Places:
        """As in _Text."""
        found: Places = set()
        for place in sorted(places):
            if place not in found:
                slash = path.find("/", place)
                found.update(range(place, (slash if slash >= 0 else len(path)) + 1))
        return found


@dataclass(frozen=True, slots=True)
class _Folders:
    """Any number of folders, each with its slash."""

    def after(self, path: str, places: Places) -> Places:
        """As in _Text."""
        found, at = set(places), min(places)
        while at := path.find("/", at) + 1:
            found.add(at)
        return found


@dataclass(frozen=True, slots=True)
class _Anything:
    """Any characters."""

    def after(self, path: str, places: Places) -> Places:
        """As in _Text."""
        return set(range(min(places), len(path) + 1))


_Part = _Text | _Class | _Star | _Folders | _Anything


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`literal` is its beginning without wildcards: what an exception can match begins so, or is above it. `tail` is its end without wildcards."""

    parts: tuple[_Part, ...]
    exception: bool
    literal: str
    tail: str

    def matches(self, path: str) -> bool:
        """Whether it is this very path."""
        if not (path.startswith(self.literal) and path.endswith(self.tail)):
            return False
        places = {0}
        for part in self.parts:
            places = part.after(path, places)
            if not places:
                return False
        return len(path) in places


Matched = tuple[bool, ...]
"""For each pattern, whether it matched a path or a folder above it."""


class Ignore:
    """The patterns of one file, in their order."""

    def __init__(self, patterns: Iterable[_Pattern] = ()) -> None:
        self._patterns: Sequence[_Pattern] = tuple(patterns)
        self._exceptions = tuple(pattern for pattern in self._patterns if pattern.exception)

    @property
    def nothing(self) -> Matched:
        """What is matched at the top of the folder."""
        return (False,) * len(self._patterns)

    def step(self, path: str, above: Matched) -> tuple[bool, Matched]:
        """Whether the path is left out, and what its children begin with; `above` is what its folder gave."""
        matched = tuple(was or pattern.matches(path) for pattern, was in zip(self._patterns, above, strict=True))
        last = next((pattern for pattern, hit in zip(reversed(self._patterns), reversed(matched), strict=True) if hit), None)
        return last is not None and not last.exception, matched

    def ignores(self, path: str) -> bool:
        """Whether one path is left out."""
        ignored, above, parts = False, self.nothing, path.split("/")
        for i in range(len(parts)):
            ignored, above = self.step("/".join(parts[: i + 1]), above)
        return ignored

    def excepts_below(self, folder: str) -> bool:
        """Whether an exception may bring back something below a folder that is left out."""
        below = f"{folder}/"
        return any(pattern.literal.startswith(below) or below.startswith(pattern.literal) for pattern in self._exceptions)


def parse_ignore(text: str) -> Ignore:
    """The patterns of a .dockerignore; BadPatternError for the first that is none."""
    patterns: list[_Pattern] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("#"):
            continue
        said = line.strip()
        exception = said.startswith("!")
        glob = said.removeprefix("!").strip()
        if exception and not glob:
            raise BadPatternError(number, said, "an exception of nothing")
        if glob:
            patterns.append(_pattern(number, _cleaned(glob), exception=exception))
    return Ignore(patterns)


def _cleaned(glob: str) -> str:
    """The shortest form of a path; a leading slash goes."""
    clean = posixpath.normpath(glob)
    return clean.lstrip("/") or "/"


def _pattern(number: int, glob: str, *, exception: bool) -> _Pattern:
    try:
        parts = tuple(_parts(glob))
    except ValueError as error:
        raise BadPatternError(number, glob, str(error)) from None
    literal, tail = (part.text if isinstance(part, _Text) else "" for part in (parts[0], parts[-1]))
    return _Pattern(parts, exception, literal, tail)


def _parts(glob: str) -> Iterator[_Part]:
    """The elements of a glob, with neighbouring characters as one; ValueError when it is none."""
    text, i = "", 0
    if glob.startswith("**") and not glob.startswith("/", 2) and not set(glob[2:]) & set("*?[]\\"):
        yield _Anything()
        i = 2
    while i < len(glob):
        part, i = _part(glob, i)
        if isinstance(part, _Text):
            text += part.text
            continue
        if text:
            yield _Text(text)
            text = ""
        yield part
    if text:
        yield _Text(text)


def _part(glob: str, i: int) -> tuple[_Part, int]:
    """One element of a glob, and where the next one begins."""
    if glob.startswith("**", i):
        after = i + 3 if glob.startswith("/", i + 2) else i + 2
        return (_Anything() if after == len(glob) else _Folders()), after
    match glob[i]:
        case "*":
            return _Star(), i + 1
        case "?":
            return _ANY, i + 1
        case "[":
            return _class(glob, i + 1)
        case _:
            character, after = _character(glob, i)
            return _Text(character), after


def _class(glob: str, i: int) -> tuple[_Part, int]:
    """A class of characters, from behind its bracket on: single ones and ranges, which `^` negates."""
    negated = glob.startswith("^", i)
    i += negated
    ranges: list[tuple[str, str]] = []
    while not glob.startswith("]", i) or not ranges:
        low, i = _member(glob, i)
        high = low
        if glob.startswith("-", i):
            high, i = _member(glob, i + 1)
        if low > high:
            raise ValueError(f"the range {low}-{high} is upside down")
        ranges.append((low, high))
    return _Class(tuple(ranges), negated), i + 1


def _member(glob: str, i: int) -> tuple[str, int]:
    if i >= len(glob):
        raise ValueError("a '[' without its ']'")
    if glob[i] in "-]":
        raise ValueError(f"{glob[i]!r} in brackets needs a backslash")
    return _character(glob, i)


def _character(glob: str, i: int) -> tuple[str, int]:
    """A character, or the one behind a backslash."""
    if glob[i] != "\\":
        return glob[i], i + 1
    if i + 1 == len(glob):
        raise ValueError("a backslash with nothing behind it")
    return glob[i + 1], i + 2
