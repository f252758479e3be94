"""The parts that are looked at and worked on, as the engine is given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controller.domain.desired import DesiredHost
from controller.domain.errors import UnreachableError
from controller.domain.ports.archives import Archives
from controller.domain.ports.hosts import Contexts, Host
from controller.domain.ports.registries import Registry
from controller.domain.ports.stores import Store

Clock = Callable[[], float]
Upstreams = Callable[[str], Sequence[Registry]]
"""The registries to ask for a domain, in order: mirrors first."""

OpenRange = Callable[[DesiredHost], Host]
"""Opens the engine of a range that was found."""


def _no_range(host: DesiredHost) -> Host:
    raise UnreachableError(f"opening {host.name}", "ranges are not looked for here")


@dataclass(frozen=True, slots=True)
class World:
    """The registry, what it is filled from, and what must outlive a restart. `clock` gives seconds since the epoch.

    `hosts` are the file's and the ranges that were found: these come and go. `silent` says of which of them nothing can be told now, and why;
    `ranges` are those that may let us wait for ever.
    """

    registry: Registry
    upstreams: Upstreams
    hosts: dict[str, Host]
    archives: Archives
    contexts: Contexts
    store: Store
    clock: Clock
    open_range: OpenRange = _no_range
    silent: dict[str, str] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)

    def host(self, name: str) -> Host:
        """One host; UnreachableError when it is none any more."""
        try:
            return self.hosts[name]
        except KeyError:
            raise UnreachableError(f"asking {name}", "it is no host any more", hint="its container was stopped or removed") from None
