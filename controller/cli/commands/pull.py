"""`wharf pull`: an image from its upstream to the registry, or from there to a host."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.doors import through
from controller.cli.options import FILES, STATE
from controller.domain.actions import Kind
from controller.engine.doors import bringing_back, pulling
from controller.settings import files_or_default
from controller.wiring.setup import read


@click.command()
@click.argument("image")
@click.option("--host", default=None, metavar="HOST", help="Bring it from the registry to this host, instead of from upstream to the registry.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be given several times.")
@FILES
@STATE
def pull(image: str, host: str | None, platforms: tuple[str, ...], files: tuple[Path, ...], state: str | None) -> int:
    """Bring IMAGE from its upstream to the registry; with --host from the registry to a host.

    Exit codes as `push`.
    """
    setup = read(files_or_default(files))
    if host is not None:
        return through(setup, state, "pull", bringing_back(setup.desired, image, host), {Kind.PULL})
    return through(setup, state, "pull", pulling(setup.desired, image, platforms), {Kind.COPY})
