"""The state file of a setup."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from controller.domain.errors import UsageError
from controller.domain.ports.stores import Store
from controller.store.location import state_file
from controller.store.lock import ControllerLock
from controller.store.sqlite import SqliteStore
from controller.wiring.setup import Setup


@contextmanager
def stored(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store of the setup's Wharf, for reading commands: nothing is written, and another controller may work on it meanwhile."""
    with closing(SqliteStore(state_file(state, os.environ, setup.desired.wharf), read_only=True)) as store:
        yield store


@contextmanager
def locked(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store, with the lock that lets one controller work on a Wharf; LockedError when another one does."""
    path = state_file(state, os.environ, setup.desired.wharf)
    with ControllerLock(path), closing(SqliteStore(path)) as store:
        yield store


@contextmanager
def recorded(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store, for a command that only appends to the audit trail: a controller may work on the Wharf meanwhile."""
    with closing(SqliteStore(state_file(state, os.environ, setup.desired.wharf))) as store:
        yield store


def confirm_engines(setup: Setup, store: Store, names: Iterable[str]) -> None:
    """Forget which engines these hosts were: the next look takes what is there. UsageError for a name that is no host."""
    known = {host.name for host in setup.desired.hosts}
    for name in names:
        if name not in known:
            raise UsageError(f"--confirm-engine {name}: no such host; the file has {', '.join(sorted(known)) or 'none'}")
        store.forget_engine(name)
