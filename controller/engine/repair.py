"""Repair: what verifying found broken is brought again from where it still is, by its digest. Nothing is deleted, and only reading it back counts.

What is written is what the registry lost. Distribution keeps a file that it has, whatever is in it: a full upload is checked, answered 201 and thrown
away. So a blob with other bytes can be repaired only after its file was moved out of the registry's storage, which is the operator's to do. A
manifest is written as a blob first: with a blob cache, PUT of a manifest that the cache remembers answers 201 and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controller.domain.desired import Desired, DesiredImage
from controller.domain.errors import WharfError
from controller.domain.ports.stores import AuditEntry
from controller.domain.verdict import Broken, Found, Verdict
from controller.engine.salvage import Salvage
from controller.engine.verify import Verifier
from controller.engine.world import World


@dataclass(frozen=True, slots=True)
class Repaired:
    """One image after it was tried. `done` says what was written again from where, `failed` what did not help; `was` is how it was found."""

    was: Verdict
    now: Verdict
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the tag means another digest now (DigestChanged)."""
        return bool(self.was.digest) and self.now.digest != self.was.digest


class Repairer:
    """Repairs one registry. `desired` has the hosts whose images may be pushed."""

    def __init__(self, world: World, desired: Desired, verifier: Verifier, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._verifier = verifier
        self._salvage = Salvage(world, desired, verifier)
        self._monotonic = monotonic

    async def repair(self, verdict: Verdict, entries: Sequence[DesiredImage]) -> Repaired:
        """Try every place where it may still be, the nearest to its source first, until it is whole."""
        now, done, failed = await self._verifier.image(verdict.target, verdict.sets), [], []
        if now.whole:
            return Repaired(verdict, now, ("whole again: another image has the same content",))
        if any(each.found is Found.ABSENT for each in now.broken):
            return Repaired(verdict, now, (), ("it is not in the registry: `wharf apply` brings it",))
        for name, bring in (await self._salvage.places(now, entries)).items():
            began, before, error, moved = self._monotonic(), now, "", 0
            try:
                with self._world.registry.writing():
                    moved = await bring(now)
            except WharfError as failure:
                error = str(failure)
            now = await self._salvage.again(now)
            gained = len(before.broken) - len(now.broken)
            if now.whole or gained > 0:
                done.append(f"{'all' if now.whole else gained} of {len(before.broken)} from {name}")
            if not now.whole:
                failed.append(f"{name}: {error or 'it has not all of it, or the registry keeps what it has'}")
            self._record(before, now, name, moved, self._monotonic() - began, error)
            if now.whole:
                break
        if not now.whole:
            failed += hints(now.broken) if failed else ("nothing that the files name has it: no upstream, no archive, no host",)
        return Repaired(verdict, now, tuple(done), tuple(failed))

    def _record(self, before: Verdict, now: Verdict, place: str, moved: int, seconds: float, error: str) -> None:
        left = "" if now.whole else error or f"{len(now.broken)} of {len(before.broken)} broken still"
        reason = before.broken[0].found
        entry = AuditEntry(
            self._world.clock(), "verify", "Repair", str(now.target), place, reason, before.digest, now.digest, moved, round(seconds, 3), left
        )
        self._world.store.record(entry)


def hints(broken: Iterable[Broken]) -> list[str]:
    """What a person has to do before it can be repaired: a file that is there is never replaced, one that is gone may be in the cache."""
    kept = sorted({each.digest for each in broken if each.digest and each.found not in {Found.MISSING, Found.ABSENT}})
    cached = any(each.found is Found.CUT_SHORT for each in broken)
    said = [f"if the registry has {_file(digest)} in its storage, move that file away and repair again" for digest in kept]
    return said + ["if it has not, its blob cache says so: restart the registry and repair again"] * cached


def _file(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    return f"docker/registry/v2/blobs/{algorithm}/{name[:2]}/{name}/data"
