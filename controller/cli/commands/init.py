"""`wharf init`: drafts both documents from a live engine."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from controller.cli.errors import Exit
from controller.cli.loop import run_to_end
from controller.documents.draft import draft
from controller.domain.errors import UsageError
from controller.wiring.world import host_contents


@click.command()
@click.option(
    "--from-host",
    "engine",
    is_flag=False,
    flag_value="env",
    default=None,
    metavar="[ENGINE]",
    help="Draft from this engine; default: DOCKER_HOST or the local socket.",
)
@click.option("--registry", default="http://127.0.0.1:5000", show_default=True, help="The registry that shall hold every image.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, which must not exist; default: standard output.")
def init(engine: str | None, registry: str, out: Path | None) -> int:
    """Draft both documents from a live engine: what is there, what is in use, what each image would free."""
    if engine is None:
        raise UsageError("say --from-host, or --from-host=unix:///var/run/docker.sock")
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already: name another file")
    contents = run_to_end(host_contents(engine))
    text = draft(contents.state, contents.frees, contents.engine, registry)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        Console(stderr=True).print(f"drafted {out}: look at it, then `wharf plan {out}`")
    return Exit.OK
