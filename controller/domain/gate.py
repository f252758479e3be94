"""A gate that nobody shuts: of a registry that is only read, or whose garbage nobody here collects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from controller.domain.ports.collecting import Doubt, Gate, Shut


class OpenGate:
    """Fulfils `domain.ports.collecting.Gate`."""

    closed = False
    doubt = Doubt.NONE

    def enter(self, _: str = "") -> Callable[[], None]:
        """Begin to write."""
        return lambda: None

    @contextmanager
    def writing(self, _: str = "") -> Iterator[None]:
        """The same for a task and what it starts."""
        yield

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A part of something that has entered."""
        yield

    @asynccontextmanager
    async def collecting(self, patience: float) -> AsyncIterator[Shut]:
        """It has no lock."""
        raise NotImplementedError(f"{type(self).__name__} can't be shut, within {patience} s or ever")
        yield  # So that it is a generator.


OPEN: Gate = OpenGate()
