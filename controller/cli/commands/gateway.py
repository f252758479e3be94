"""`wharf gateway`: one address to push to and to pull through, alone in front of a registry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from controller.cli.errors import Exit
from controller.cli.gateway import beside
from controller.cli.loop import run_to_end, told_to_stop
from controller.cli.options import STATE
from controller.domain.compile import registry_address
from controller.domain.desired import Desired
from controller.domain.errors import UsageError
from controller.domain.reference import canonical_domain
from controller.domain.spec import Redirect, WharfSpec, Who
from controller.wiring.setup import Setup
from controller.wiring.state import locked

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


@click.command("gateway")
@click.option("--listen", default="127.0.0.1:5001", show_default=True, metavar="ADDR:PORT", help="Where to serve.")
@click.option("--registry", required=True, metavar="URL", help="The registry that keeps everything.")
@click.option("--upstream", "upstreams", multiple=True, metavar="DOMAIN[=URL]", help="May be pulled through; default: docker.io, ghcr.io, quay.io.")
@click.option("--private", multiple=True, metavar="DOMAIN", help="What is this upstream's is given to users only.")
@click.option("--htpasswd", type=click.Path(), help="Users and their passwords, as `htpasswd -B` writes them.")
@click.option("--pull", type=click.Choice(list(Who)), help="Who may pull. Default: Anyone on a loopback address, else Users.")
@click.option("--push", type=click.Choice(list(Who)), help="Who may push and delete. Default: the same.")
@click.option("--redirect", is_flag=True, help="Send clients to the registry itself for blobs that it has.")
@STATE
def gateway(state: str | None, **said: Any) -> int:  # noqa: ANN401 - the options, as Options names them
    """Serve one address for a registry and upstreams: push to it, pull through it. Needs no Docker socket."""
    options = Options(**said)
    spec = _spec(options)
    domains = frozenset(canonical_domain(upstream.domain) for upstream in spec.upstreams)
    private = frozenset(map(canonical_domain, options.private))
    if stranger := next(iter(private - domains), ""):
        raise UsageError(f"--private {stranger}: no upstream; there are {', '.join(sorted(domains))}")
    desired = Desired("gateway", frozenset({registry_address(spec), options.listen}), upstreams=domains, private=private)
    run_to_end(_serve(spec, lambda: desired, state))
    return Exit.OK


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
