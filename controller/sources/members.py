"""The members of an archive by name: bounded, links followed inside the archive only."""

from __future__ import annotations

import posixpath
import re

from controller.domain.errors import CorruptError
from controller.sources.tar import Entry, Kind, clean

MOST = 10_000
"""Members that matter; an archive of a thousand images has fewer."""

_MOST_LINKS = 8
_IRRELEVANT = re.compile(r"[^/]*/(?:VERSION|json)")
"""What `docker save` writes for engines before 1.10."""

_BLOB = re.compile(r"blobs/([a-z0-9]+)/([0-9a-f]+)")


def matters(entry: Entry) -> bool:
    """Whether a manifest could ever mean it."""
    return bool(entry.name) and entry.kind is not Kind.FOLDER and not _IRRELEVANT.fullmatch(entry.name)


def digest_in(name: str) -> str:
    """The digest that a member's name claims: blobs/sha256/<hex> of an OCI layout; "" for another name."""
    found = _BLOB.fullmatch(name)
    return f"{found[1]}:{found[2]}" if found else ""


class Members:
    """What an archive has, by clean names."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: dict[str, Entry] = {}
        self._twice: set[str] = set()

    def add(self, entry: Entry) -> None:
        """One more; CorruptError when there are too many."""
        if not matters(entry):
            return
        if entry.name in self._entries and not digest_in(entry.name):
            self._twice.add(entry.name)
        self._entries[entry.name] = entry
        if len(self._entries) > MOST:
            raise CorruptError(f"reading {self._what}", f"more than {MOST} members", hint="that is no image archive")

    def __contains__(self, name: str) -> bool:
        return self._get(clean(name)) is not None

    def _get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def file(self, name: str, role: str) -> Entry:
        """The file that a name means, links followed; CorruptError, with the `role` that it should play, when there is none."""
        at = clean(name)
        for _ in range(_MOST_LINKS):
            if not at:
                raise self._corrupt(f"{role} {_shown(name)} leads out of the archive")
            if at in self._twice:
                raise self._corrupt(f"{role} {_shown(name)} is there twice, so nobody knows which one is meant")
            entry = self._get(at)
            if entry is None:
                raise self._corrupt(f"{role} {_shown(name)} is missing")
            match entry.kind:
                case Kind.FILE:
                    return entry
                case Kind.SYMLINK:
                    at = _inside(posixpath.join(posixpath.dirname(at), entry.target))
                case Kind.LINK:
                    at = _inside(entry.target)
                case _:
                    raise self._corrupt(f"{role} {_shown(name)} is {entry.kind}, and should be a file")
        raise self._corrupt(f"{role} {_shown(name)} is a link that leads in circles")

    def _corrupt(self, answer: str) -> CorruptError:
        return CorruptError(f"reading {self._what}", answer, hint="make or fetch the archive again")


def _inside(path: str) -> str:
    """A link's target, from the archive's top; "" when it leads out."""
    return clean(posixpath.normpath(path))


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:97]}..."  # noqa: PLR2004 - as long as a digest and some more
