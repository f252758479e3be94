"""What a .dockerignore leaves out, by Docker's rules: globs over slash-separated paths, exceptions by `!`, the last match wins.

A pattern that matches a folder matches all below it. The rules are those of Docker's own matcher, which differ from Go's filepath.Match and from
.gitignore: a leading slash means nothing, `*` and `?` stop at a slash, `**` is any number of folders, none too, and `**` with a text right behind
it is any path that ends so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class BadPatternError(ValueError):
    """A pattern that Docker would refuse. `line` counts from 1."""

    def __init__(self, line: int, pattern: str, why: str) -> None:
        super().__init__(f"line {line}: {pattern[:60]!r}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`literal` is its beginning without wildcards: what an exception can match begins so, or is above it."""

    expression: re.Pattern[str]
    exception: bool
    literal: str


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
        matched = tuple(was or pattern.expression.fullmatch(path) is not None for pattern, was in zip(self._patterns, above, strict=True))
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
        expression = _expression(glob)
    except ValueError as error:
        raise BadPatternError(number, glob, str(error)) from None
    literal = re.match(r"[^*?\[\\]*", glob)
    return _Pattern(re.compile(expression, re.DOTALL), exception, literal.group() if literal else "")


def _expression(glob: str) -> str:
    """The regular expression of a glob; ValueError when it is none."""
    if glob.startswith("**") and not re.search(r"[*?\[\]\\]", glob[2:]) and not glob[2:].startswith("/"):
        return f".*{re.escape(glob[2:])}"
    parts: list[str] = []
    i = 0
    while i < len(glob):
        part, i = _part(glob, i)
        parts.append(part)
    return "".join(parts)


def _part(glob: str, i: int) -> tuple[str, int]:
    """One element of a glob as an expression, and where the next one begins."""
    if glob.startswith("**", i):
        after = i + 3 if glob.startswith("/", i + 2) else i + 2
        return (".*" if after == len(glob) else "(?:.*/)?"), after
    match glob[i]:
        case "*":
            return "[^/]*", i + 1
        case "?":
            return "[^/]", i + 1
        case "[":
            return _class(glob, i + 1)
        case "\\":
            character, after = _character(glob, i)
            return re.escape(character), after
        case character:
            return re.escape(character), i + 1


def _class(glob: str, i: int) -> tuple[str, int]:
    """A class of characters, from behind its bracket on: single ones and ranges, which `^` negates."""
    negated = glob.startswith("^", i)
    i += negated
    ranges: list[str] = []
    while not glob.startswith("]", i) or not ranges:
        low, i = _member(glob, i)
        high = low
        if glob.startswith("-", i):
            high, i = _member(glob, i + 1)
        if low > high:
            raise ValueError(f"the range {low}-{high} is upside down")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", i + 1


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
