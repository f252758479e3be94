"""Which tags of a repository a set chooses: versions, the newest, globs. Pure; what is listed decides nothing about deletion.

A tag is a version if it has at least two numbers: `1.27`, `v3.19.1`, and with a suffix `1.27-alpine`, `2.0.0-rc1`. One number alone is none: it
may be a date. A tag with a suffix counts where `glob` asks for it, or where the range itself has a suffix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_TAG = re.compile(r"v?(\d+(?:\.\d+){1,3})(?:[-+_.]?([A-Za-z_+-].*))?", re.ASCII)
_COMPARISON = re.compile(r"(>=|<=|>|<|=|\^|~)? ?v?(\d+(?:\.\d+){0,2})(?:-([0-9A-Za-z.-]+))?", re.ASCII)
_OURS = re.compile(r"wharf-held-|sha256-[0-9a-f]{64}")
"""Held manifests and referrers are no tags that anybody chooses."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class TagChoice:
    """Which tags; what is given must hold together. `semver` is a range, `newest` a number of tags, `glob` and `exclude` patterns of tags."""

    semver: str = ""
    newest: int | None = None
    glob: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def choose(tags: Iterable[str], choice: TagChoice) -> list[str]:
    """The chosen tags, the newest first."""
    wanted, unwanted = _globs(choice.glob), _globs(choice.exclude)
    listed = [tag for tag in dict.fromkeys(tags) if not _OURS.match(tag) and not unwanted(tag) and (not choice.glob or wanted(tag))]
    if choice.semver:
        listed = [tag for tag in listed if _within(tag, choice)]
    elif choice.newest and not choice.glob:
        listed = [tag for tag in listed if (version := version_of(tag)) and not version[1]]
    return sorted(listed, key=_newness, reverse=True)[: choice.newest]


def version_of(tag: str) -> tuple[tuple[int, ...], str] | None:
    """The numbers and the suffix of a tag that is a version; None for another one."""
    match = _TAG.fullmatch(tag)
    return None if match is None else (tuple(map(int, match[1].split("."))), match[2] or "")


def _within(tag: str, choice: TagChoice) -> bool:
    version = version_of(tag)
    if version is None or (version[1] and not choice.glob and "-" not in choice.semver):
        return False
    key = _key(*version)
    return all(test(key) for test in map(_comparison, re.findall(r"(?:>=|<=|>|<|=|\^|~)? ?v?\d[^ ,]*", choice.semver)))


def _comparison(text: str) -> Callable[[Key], bool]:
    """One comparison, as npm's node-semver has them: what a version leaves out may be anything, so `<=1.2` has 1.2.9 in it."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no comparison of versions")
    operator, numbers, suffix = match[1] or "=", tuple(map(int, match[2].split("."))), match[3] or ""
    low = _key(numbers, suffix) if suffix else _floor(numbers)
    after = _floor(_next(numbers, len(numbers) - 1))
    if suffix and operator in {"=", ">", "<="}:
        return {"=": low.__eq__, ">": low.__lt__, "<=": low.__ge__}[operator]
    match operator:
        case ">=":
            return low.__le__
        case ">":
            return after.__le__
        case "<":
            return low.__gt__
        case "<=":
            return after.__gt__
        case "=":
            high = after
        case "^":
            first = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
            high = _floor(_next(numbers, first))
        case _:
            high = _floor(_next(numbers, min(1, len(numbers) - 1)))
    return lambda key: low <= key < high


def _next(numbers: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*numbers[:place], numbers[place] + 1)


def _floor(numbers: tuple[int, ...]) -> Key:
    """Below every version that begins with these numbers, pre-releases too."""
    return (_padded(numbers), ())


def _key(numbers: tuple[int, ...], suffix: str) -> Key:
    """Versions in their order (semver 2.0, item 11): a suffix comes before the version that has none."""
    return (_padded(numbers), (0, _natural(suffix)) if suffix else (1,))


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, *[0] * (4 - len(numbers)))


def _natural(text: str) -> Key:
    """So that 9 comes before 10."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text, flags=re.ASCII) if part)


def _newness(tag: str) -> Key:
    version = version_of(tag)
    return (1, _key(*version), len(tag), tag) if version else (0, _natural(tag), len(tag), tag)


def _globs(patterns: Iterable[str]) -> Callable[[str], bool]:
    expressions = [re.compile("".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)) for pattern in patterns]
    return lambda tag: any(expression.fullmatch(tag) for expression in expressions)
