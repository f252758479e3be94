"""Whether a running controller does its work: looks succeed, and the last one is not old."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.engine.reconcile import Look

OLD = 3
"""Intervals after which a look is too old to say that all is well."""


class Health:
    """Remembers how the last full looks went. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: float | None = None
        self._interval = 0.0
        self._registry_error = ""

    def looked(self, look: Look) -> None:
        """A full look ended. One to which the registry did not answer says nothing of the images."""
        self._interval = look.desired.interval
        self._registry_error = look.seen.registry_error
        if not self._registry_error:
            self._last = self._monotonic()

    @property
    def unready(self) -> str:
        """Why it is not ready, in one line; "" when it is."""
        if self._registry_error:
            return f"the registry does not answer: {' '.join(self._registry_error.split())}"
        if self._last is None:
            return "no full look has ended yet"
        age = self._monotonic() - self._last
        if age > OLD * self._interval:
            return f"the last full look that went well ended {age:.0f} s ago; one is made every {self._interval:.0f} s"
        return ""
