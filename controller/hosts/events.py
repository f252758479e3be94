"""What an engine tells of its images and containers while it happens: hints only, which may be lost (law 3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from controller.hosts.streams import Client, Stream

_MOST = 1000
"""Words that wait for their reader. More of them say no more: the reader lists everything again anyway."""

_OF_CONTAINERS = {"create", "destroy", "commit", "start", "die"}
"""What changes which images are in use, or which containers run."""

_OF_NO_CHANGE = {"push", "save"}


class Events(Stream):
    """One stream of events; `ready` is set once the engine listens."""

    def __init__(self, tried: str) -> None:
        super().__init__(tried, lambda _: None)
        self.ready = asyncio.Event()
        self._words: asyncio.Queue[str] = asyncio.Queue(_MOST)

    def begun(self) -> None:
        """The engine has answered."""
        self.loop.call_soon_threadsafe(self.ready.set)

    def run(self, client: Client) -> None:
        """Read to the end, in a thread."""
        filters = json.dumps({"type": ["image", "container"]})
        url = client._url("/events")  # noqa: SLF001 - the SDK's helper
        for record in self.records(client, url, params={"filters": filters}, headers={}, method="GET"):
            word = word_of(record)
            if word:
                self.loop.call_soon_threadsafe(self._put, word)

    async def word(self) -> str:
        """The next one."""
        return await self._words.get()

    def _put(self, word: str) -> None:
        if not self._words.full():
            self._words.put_nowait(word)


def word_of(record: Mapping[str, Any]) -> str:
    """An event in words; "" for one that changes neither images nor their use."""
    kind, action = str(record.get("Type", "")), str(record.get("Action", ""))
    if (kind == "container" and action not in _OF_CONTAINERS) or (kind == "image" and action in _OF_NO_CHANGE):
        return ""
    actor = record.get("Actor")
    found: Any = actor if isinstance(actor, Mapping) else {}
    attributes = found.get("Attributes")
    name = (attributes.get("name") if isinstance(attributes, Mapping) else "") or found.get("ID", "")
    return f"{kind} {action} {name}"[:200]
