"""`wharf push`: an image of a host to the registry."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.doors import through
from controller.cli.options import FILES, STATE
from controller.domain.actions import Kind
from controller.engine.doors import pushing
from controller.settings import files_or_default
from controller.wiring.setup import read


@click.command()
@click.argument("image")
@click.option("--host", required=True, metavar="HOST", help="The host that has it.")
@FILES
@STATE
def push(image: str, host: str, files: tuple[Path, ...], state: str | None) -> int:
    """Bring a host's IMAGE to the registry, and read it back. It stays on the host.

    Without a domain it is a local name, as in a set. What the host pulled comes from upstream itself while that still has it.
    Exit code 0: the registry has it; 2: not, and why; 1: a file or usage error; 3: nothing could be reached.
    """
    setup = read(files_or_default(files))
    return through(setup, state, "push", pushing(setup.desired, image, host), {Kind.COPY, Kind.PUSH})
