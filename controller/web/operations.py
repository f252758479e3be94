"""What a controller tells those who watch it, kept up to date by what happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.engine.reconcile import Look
from controller.engine.shift import Shift
from controller.web.health import Health
from controller.web.metrics import Metrics
from controller.web.notifications import Change


class Operations:
    """Health and metrics of a running controller, and the way for hints to the shift that works now. `clock` is the looks' own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.health = Health()
        self.metrics = Metrics()
        self._clock = clock
        self._shift: Shift | None = None

    def began(self, shift: Shift) -> None:
        """A shift takes over."""
        self._shift = shift
        self.metrics.began(shift)

    def looked(self, look: Look) -> None:
        """A full look ended."""
        self.health.looked(look)
        self.metrics.looked(look)
        self.metrics.lasted(max(0.0, self._clock() - look.seen.now))

    def hint(self, change: Change) -> None:
        """Somebody says that the registry changed. Before the first shift nothing is remembered that could be old."""
        if self._shift is not None:
            self._shift.hint(change.repository, change.tag)
