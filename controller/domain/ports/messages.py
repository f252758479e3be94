"""Messages to people."""

from __future__ import annotations

from typing import Protocol


class Messenger(Protocol):
    """A way to people."""

    async def send(self, title: str, body: str, *, trouble: bool) -> None:
        """Send a message; `trouble` says whether it is bad news."""
        ...
