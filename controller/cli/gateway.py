"""The gateway, served beside what else a command does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from controller.domain.desired import Desired
from controller.domain.errors import RemoteError, UsageError
from controller.domain.ports.stores import Store
from controller.domain.spec import GatewaySpec, Redirect
from controller.gateway.keeper import Kept
from controller.gateway.serving import Parts, access_of, serving
from controller.registry.forward import ForwardingClient
from controller.wiring.registries import open_registries
from controller.wiring.setup import Setup

log = logging.getLogger(__name__)


@asynccontextmanager
async def beside(setup: Setup, store: Store, desired: Callable[[], Desired], kept: Callable[[Kept], None], *, must: bool) -> AsyncIterator[None]:
    """The gateway that the file asks for, if it does; `kept` is told of each pull from the internet.

    UsageError when it must be served and can't; else that is told, and disturbs nothing else.
    """
    async with AsyncExitStack() as stack:
        if setup.wharf.gateway is not None:
            try:
                await stack.enter_async_context(_served(setup.wharf.gateway, setup, store, desired, kept))
            except UsageError as error:
                if must:
                    raise
                log.error("%s", error)  # noqa: TRY400 - a traceback says nothing here
        yield


@asynccontextmanager
async def _served(spec: GatewaySpec, setup: Setup, store: Store, desired: Callable[[], Desired], kept: Callable[[Kept], None]) -> AsyncIterator[None]:
    async with open_registries(setup.wharf, setup.base, ForwardingClient, store) as (registry, upstreams):
        with suppress(RemoteError):
            await registry.ping()  # It says now how it wants us to log in: what is streamed can't be sent twice.
        sent_on = setup.wharf.registry.url if spec.redirect is Redirect.BLOBS else ""
        parts = Parts(registry, upstreams, store, desired, access_of(spec, setup.base), sent_on, kept)
        async with serving(parts, spec.listen):
            through = ", ".join(sorted(upstreams)) or "nothing"
            log.info("serving %s before %s, pulling through from %s", spec.listen, setup.wharf.registry.url, through)
            yield
