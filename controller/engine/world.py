"""The parts that are looked at and worked on, as the engine is given them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.ports import Archives, Contexts, Host, Registry, Store

Clock = Callable[[], float]
Upstreams = Callable[[str], Sequence[Registry]]
"""The registries to ask for a domain, in order: mirrors first."""


@dataclass(frozen=True, slots=True)
class World:
    """The registry, what it is filled from, and what must outlive a restart. `clock` gives seconds since the epoch."""

    registry: Registry
    upstreams: Upstreams
    hosts: Mapping[str, Host]
    archives: Archives
    contexts: Contexts
    store: Store
    clock: Clock
