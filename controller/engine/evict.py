"""Evict: a name off a host, after the proof, and only if the host still means the same image at that moment (law 1)."""

from __future__ import annotations

import asyncio

from controller.domain.actions import Evict
from controller.domain.desired import Desired, HostCopy
from controller.domain.errors import MovedError, RefusedError
from controller.domain.observation import HostState, Observation, Present
from controller.domain.policy import eviction_verdict
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance
from controller.engine.prove import Proof, Prover
from controller.engine.remove import remove


class Evictor:
    """Removes from hosts; look and removal of one host are one step that nothing of ours comes between."""

    def __init__(self) -> None:
        self._looking: dict[str, asyncio.Lock] = {}

    async def evict(self, action: Evict, host: Host, desired: Desired, seen: Observation, prover: Prover, advance: Advance) -> Proof:
        """Do it, and give the proof that allowed it.

        Raises UnprovenError when the registry does not hold the content, MovedError when the host is not what the plan saw, RefusedError when
        the engine refuses (in use, or it removed something else), RemoteError for other answers.
        """
        detail = await host.inspect(action.image_id)
        proof = await prover.prove(action.target, action.copy.image, detail, action.copy.store, advance)
        async with self._looking.setdefault(host.name, asyncio.Lock()):
            copy = await _same_still(action, host, desired, seen)
            await remove(host, copy.image, copy.tag, detail, f"evicting {copy.tag.familiar} from {host.name}")
        return proof


async def _same_still(action: Evict, host: Host, desired: Desired, seen: Observation) -> HostCopy:
    """List the host again: the engine, the image under its name, and every guard must be as the plan saw them."""
    state = await host.look()
    planned = seen.hosts.get(host.name)
    if not isinstance(planned, Present) or planned.value.engine_id != state.engine_id:
        raise MovedError(f"{host.name} is another engine now ({state.engine_id}): nothing was removed")
    images = tuple(image for image in state.images if image.id == action.image_id)
    copies = desired.copies([(action.copy.host, HostState(state.engine_id, state.store, images))])
    copy = next((copy for copy in copies if copy.tag == action.tag), None)
    if copy is None:
        raise MovedError(f"{action.tag.familiar} on {host.name} means {action.image_id[:19]} no more: look again")
    held = eviction_verdict(action, copy)
    if held is not None:
        raise RefusedError(f"evicting {action.tag.familiar} from {host.name}", held[1])
    return copy
