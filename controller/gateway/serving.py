"""A gateway at work: its parts, its port, and its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from controller.domain.desired import Desired
from controller.domain.errors import UsageError
from controller.domain.ports.registries import ReadableRegistry
from controller.domain.ports.stores import PULL_THROUGH, AuditEntry, Store
from controller.domain.spec import GatewaySpec
from controller.engine.manifests import Manifests
from controller.gateway.access import Access, read_users
from controller.gateway.keeper import Keeper, Kept
from controller.gateway.pulls import Pulls
from controller.gateway.server import Gateway
from controller.gateway.spool import Spool
from controller.gateway.upstream import SpooledUpstream
from controller.gateway.writes import Writes
from controller.registry.forward import ForwardingClient

log = logging.getLogger(__name__)

_LAST_ANSWERS = 10.0
"""Seconds that answers under way get to end in, once it is told to stop."""


@dataclass(frozen=True)
class Parts:
    """What a gateway stands on."""

    registry: ForwardingClient
    upstreams: Mapping[str, Sequence[ReadableRegistry]]
    store: Store
    desired: Callable[[], Desired]
    access: Access
    send_on: str = ""
    kept: Callable[[Kept], None] = lambda _: None
    clock: Callable[[], float] = time.time


def access_of(spec: GatewaySpec, base: Path) -> Access:
    """The rules of the file; UsageError when its users can't be read. Tokens are good for one process."""
    users = read_users(base / spec.htpasswd_file) if spec.htpasswd_file else {}
    return Access(spec.pull_by, spec.push_by, users, secrets.token_bytes(32))


@asynccontextmanager
async def serving(parts: Parts, listen: str) -> AsyncIterator[int]:
    """Serve at this `host:port`; gives the port. UsageError when it can't be had. What is being brought to the registry is cancelled at the end."""
    async with asyncio.TaskGroup() as group:
        spool, manifests = Spool(group), Manifests()
        keeper = Keeper(group, parts.registry, manifests, spool, lambda kept: _record(parts, kept))
        upstreams = {domain: [SpooledUpstream(each, spool) for each in registries] for domain, registries in parts.upstreams.items()}
        pulls = Pulls(parts.registry, upstreams, keeper, parts.store, parts.clock)
        writes = Writes(parts.registry.gate, parts.registry)
        gateway = Gateway(parts.registry, pulls, writes, parts.desired, parts.access, send_on=parts.send_on)
        runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=_LAST_ANSWERS)
        await runner.setup()
        try:
            refused = await _listen(runner, listen)
            if refused is None:
                yield runner.addresses[0][1]
        finally:
            await runner.cleanup()
            writes.close()
            keeper.close()
            spool.close()
    if refused is not None:  # Outside of the group, which would wrap it.
        raise refused


def _record(parts: Parts, kept: Kept) -> None:
    """In the audit trail, as every change of the registry is."""
    pulled = kept.pulled
    parts.store.record(
        AuditEntry(
            at=parts.clock(),
            actor="gateway",
            action=PULL_THROUGH,
            image=str(pulled.target),
            host=pulled.client,
            reason="FromInternet",
            before=pulled.replaces,
            after="" if kept.error else pulled.manifest.digest,
            bytes=kept.bytes,
            seconds=kept.seconds,
            error=kept.error,
        )
    )
    parts.kept(kept)


async def _listen(runner: web.AppRunner, listen: str) -> UsageError | None:
    """Why it can't listen there; None when it does."""
    host, _, port = listen.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        return UsageError(f"gateway.listen {listen}: {error.strerror or error}: say a free address of this machine")
    return None
