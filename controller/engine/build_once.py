"""One build that a person asked for: looked at, skipped where the registry has it already, done and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.domain.actions import Build, Reason
from controller.domain.desired import BuildSource, Desired, DesiredHost
from controller.domain.errors import MovedError, NotFoundError, UsageError, WharfError
from controller.domain.ports import Advance, AuditEntry, Contexts, Host, Registry, Store
from controller.domain.reference import Target
from controller.domain.spec import Ensure, Mode
from controller.engine.building import Builder, built_from
from controller.engine.manifests import Manifests
from controller.engine.push import Pusher

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be built. `action` is None when the registry's `digest` was built from this very folder."""

    action: Build | None
    digest: str


class OneBuild:
    """Builds on one host; `clock` gives seconds since the epoch."""

    def __init__(self, registry: Registry, host: Host, store: Store, contexts: Contexts, desired: Desired, *, clock: Clock = time.time) -> None:
        self._registry = registry
        self._host = host
        self._store = store
        self._contexts = contexts
        self._desired = desired
        self._clock = clock
        self._manifests = Manifests()

    async def look(self, target: Target, source: BuildSource) -> Asked:
        """Finish what broken builds left on the host, and see whether there is anything to build.

        Raises UsageError when the files forbid it or there is no such folder, MovedError when the host is another engine, RemoteError when registry
        or engine do not answer.
        """
        self._allowed(target)
        try:
            folder = await self._contexts.look(source)
        except WharfError as error:
            raise UsageError(str(error)) from None
        await self._registry.ping()
        state = await self._host.look()
        self._same_engine(state.engine_id)
        await Pusher(self._registry, self._store, self._manifests).recover(self._host, state.engine_id, state.store)
        try:
            current = (await self._registry.resolve(target.repository, target.tag)).digest
        except NotFoundError:
            current = ""
        if current and await built_from(self._registry, self._manifests, target) == folder.hash:
            return Asked(None, current)
        action = Build(
            target=target,
            sets=self._desired.sets_of(target),
            reason=Reason.OUTDATED if current else Reason.MISSING,
            message="asked for",
            bytes=folder.size,
            host=self._host.name,
            source=source,
            context_hash=folder.hash,
            replaces=current,
        )
        return Asked(action, current)

    async def build(self, action: Build, advance: Advance) -> str:
        """Do it, recorded whether it ends well or not; the digest that the registry's tag means afterwards. Raises as `Builder.build` does."""
        began, moved, error, digest = self._clock(), 0, "", ""

        def counted(count: int) -> None:
            nonlocal moved
            moved += count
            advance(count)

        try:
            state = await self._host.look()
            self._same_engine(state.engine_id)
            builder = Builder(self._registry, self._store, self._manifests, self._contexts)
            digest = await builder.build(action, self._host, state.engine_id, state.store, self._configured.registry_address, counted)
        except WharfError as failure:
            error = str(failure)
            raise
        finally:
            now = self._clock()
            if error or digest:
                self._store.set_error(action.target, error, now)
            self._store.record(_recorded(action, now, digest, moved, now - began, error or ("" if digest else "cancelled")))
        return digest

    @property
    def _configured(self) -> DesiredHost:
        return next(host for host in self._desired.hosts if host.name == self._host.name)

    def _allowed(self, target: Target) -> None:
        if self._desired.mode is Mode.OBSERVE:
            raise UsageError(f"building {target}: the file says mode: Observe, which changes nothing")
        absent = [image.image_set for image in self._desired.by_target.get(target, ()) if image.ensure is Ensure.ABSENT]
        if absent:
            raise UsageError(f"building {target}: the set {absent[0]} says that it must be Absent")

    def _same_engine(self, engine_id: str) -> None:
        name = self._host.name
        expected = self._store.engine_of(name)
        if expected is None:
            self._store.set_engine(name, engine_id)
        elif expected != engine_id:
            raise MovedError(f"{name}: its engine was {expected} and is {engine_id} now: if that is meant, wharf apply --confirm-engine {name}")


def _recorded(action: Build, at: float, digest: str, moved: int, seconds: float, error: str) -> AuditEntry:
    return AuditEntry(at, "build", action.kind, str(action.target), action.host, action.reason, action.replaces, digest, moved, seconds, error)
