"""`wharf gateway`: one address to push to and to pull through, alone in front of a registry."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from controller.cli.errors import Exit
from controller.cli.loop import run_to_end, told_to_stop
from controller.domain.compile import registry_address
from controller.domain.desired import Desired
from controller.domain.errors import RemoteError, UsageError
from controller.domain.ports import Store
from controller.domain.reference import canonical_domain
from controller.domain.spec import GatewaySpec, Redirect, WharfSpec
from controller.gateway.keeper import Kept
from controller.gateway.serving import Parts, access_of, serving
from controller.registry.forward import ForwardingClient
from controller.wiring import Setup, locked, open_registries

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    listen: str
    registry: str
    upstreams: tuple[str, ...]
    private: tuple[str, ...]
    htpasswd: str | None
    pull: str | None
    push: str | None
    redirect: bool


def gateway(options: Options, state: str | None) -> int:
    """`wharf gateway`."""
    spec = _spec(options)
    domains = frozenset(canonical_domain(upstream.domain) for upstream in spec.upstreams)
    private = frozenset(map(canonical_domain, options.private))
    if stranger := next(iter(private - domains), ""):
        raise UsageError(f"--private {stranger}: no upstream; there are {', '.join(sorted(domains))}")
    desired = Desired("gateway", frozenset({registry_address(spec), options.listen}), upstreams=domains, private=private)
    run_to_end(_serve(spec, lambda: desired, state))
    return Exit.OK


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


async def _serve(spec: WharfSpec, desired: Callable[[], Desired], state: str | None) -> None:
    stop = told_to_stop()
    setup = Setup(desired(), spec, Path(), (), ())
    with locked(setup, state) as store:
        async with beside(setup, store, desired, lambda _: None, must=True):
            await stop.wait()
    log.info("stopped")


def _spec(options: Options) -> WharfSpec:
    """What the options say, checked as the file is."""
    named = [text.partition("=") for text in options.upstreams]
    upstreams = [{"domain": domain} | ({"url": url} if url else {}) for domain, _, url in named]
    gateway = {
        "listen": options.listen,
        "htpasswdFile": options.htpasswd,
        "pull": options.pull,
        "push": options.push,
        "redirect": Redirect.BLOBS if options.redirect else Redirect.NONE,
    }
    said = {
        "registry": {"url": options.registry},
        "gateway": {name: value for name, value in gateway.items() if value is not None},
        **({"upstreams": upstreams} if upstreams else {}),
    }
    try:
        return WharfSpec.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        raise UsageError(f"{_OPTIONS.get(where, where)}: {first['msg']}") from None


_OPTIONS = {"registry.url": "--registry", "gateway.listen": "--listen", "gateway.htpasswdFile": "--htpasswd", "gateway": "--listen"}
