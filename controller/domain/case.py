"""One place in the registry, and all that the planner knows of it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.actions import HeldBack, Kind, Reason
from controller.domain.desired import Desired, DesiredImage, HostCopy
from controller.domain.observation import Fact, Held, Observation, Present, Unknown
from controller.domain.reference import Target


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one place in the registry."""

    desired: Desired
    seen: Observation
    target: Target
    entries: tuple[DesiredImage, ...]
    copies: tuple[HostCopy, ...]

    @property
    def registry(self) -> Fact[Held]:
        """What the registry's tag means."""
        return self.seen.registry.get(self.target) or Unknown("the registry was not asked for it", self.seen.now)

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that list it."""
        return tuple(sorted({entry.image_set for entry in self.entries}))

    @property
    def unknown_hosts(self) -> list[str]:
        """The hosts that could not be looked at, and may have what others lack: no range."""
        return [host.name for host in self.desired.hosts if not host.range and not isinstance(self.seen.hosts.get(host.name), Present)]

    def held(self, action: Kind, reason: Reason, message: str, copy: HostCopy | None = None) -> HeldBack:
        """A row about this place, or about one copy of it."""
        host, size = (copy.host.name, copy.image.size) if copy else ("", 0)
        return HeldBack(str(self.target), action, host, reason, message, self.sets, size, self.target)


def short(digest: str) -> str:
    """A digest as messages quote it."""
    return digest[:19]
