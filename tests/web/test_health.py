"""Whether a running controller says that it is ready."""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.actions import Plan
from controller.engine.reconcile import Look
from controller.web.health import Health
from tests.support.builders import desired, seen


@dataclass
class Clock:
    """Seconds, as a test says."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def a_look(registry_error: str = "") -> Look:
    """A look every ten seconds."""
    return Look(desired(interval=10.0), seen(registry_error=registry_error), Plan(), ())


def test_it_is_ready_while_looks_go_well() -> None:
    """Before the first look it is not; three intervals after the last one it is no more, and says how old that is."""
    clock = Clock()
    health = Health(clock)
    assert health.unready == "no full look has ended yet"
    health.looked(a_look())
    clock.now += 30
    assert health.unready == ""
    clock.now += 1
    assert health.unready == "the last full look that went well ended 31 s ago; one is made every 10 s"
    health.looked(a_look())
    assert health.unready == ""


def test_a_silent_registry_is_named_before_an_old_look() -> None:
    """Whoever reads the one line learns the cause, however long it lasts; it fits one line."""
    clock = Clock()
    health = Health(clock)
    health.looked(a_look())
    clock.now += 100
    health.looked(a_look("GET http://r/v2/:\nrefused"))
    assert health.unready == "the registry does not answer: GET http://r/v2/: refused"
    health.looked(a_look())
    assert health.unready == ""
