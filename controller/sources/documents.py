"""The JSON documents of an archive: read from where they lie or kept as they passed, bounded one by one and all together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from controller.domain.errors import CorruptError
from controller.sources.members import Members
from controller.sources.tar import Entry

MAX_DOCUMENT = 4 << 20
MAX_DOCUMENTS = 64 << 20
_SHOWN = 200


def printable(text: str) -> str:
    """A text out of a document, for people: short, and nothing in it steers a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN])


class Documents:
    """What `contents` reads an archive's images from. `load` gives a small file's bytes, None when they were not kept."""

    def __init__(self, what: str, members: Members, load: Callable[[Entry], bytes | None]) -> None:
        self.what = what
        self.members = members
        self._load = load
        self._known: dict[str, bytes] = {}
        self._total = 0

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str, role: str) -> bytes:
        """The bytes of a document; CorruptError when it is missing or too large."""
        entry = self.members.file(name, role)
        if entry.name in self._known:
            return self._known[entry.name]
        if entry.size > MAX_DOCUMENT:
            raise self.corrupt(f"{role} has {entry.size} bytes, more than any document has")
        data = self._load(entry)
        if data is None:
            raise self.corrupt(f"{role} is no JSON")
        self._total += len(data)
        if self._total > MAX_DOCUMENTS:
            raise self.corrupt(f"more than {MAX_DOCUMENTS >> 20} MiB of documents")
        self._known[entry.name] = data
        return data

    def json(self, name: str, role: str) -> Any:  # noqa: ANN401 - JSON is anything
        """The same, parsed."""
        return self.parsed(self.read(name, role), role)

    def parsed(self, data: bytes, role: str) -> Any:  # noqa: ANN401 - JSON is anything
        """JSON; CorruptError when it is none."""
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.corrupt(f"{role} is no JSON") from None

    def corrupt(self, answer: str) -> CorruptError:
        """An error about this archive."""
        return CorruptError(f"reading {self.what}", answer, hint="make or fetch the archive again")
