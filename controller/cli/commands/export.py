"""`wharf export`: an image of the registry as one tar."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.errors import Exit, complain, complaints, note
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, REGISTRY
from controller.cli.progress import byte_bar
from controller.domain.errors import RemoteError, UnreachableError
from controller.domain.reference import parse
from controller.domain.texts import size
from controller.engine.exporting import Exporter
from controller.settings import files_or_default
from controller.wiring.archives import archive_to
from controller.wiring.registries import open_registry, repository_of
from controller.wiring.setup import read


@click.command()
@click.argument("name")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file; default: standard output.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Only this platform of an image that has several.")
@REGISTRY
@FILES
def export(name: str, out: Path | None, platform: str, registry: str | None, files: tuple[Path, ...]) -> int:
    """Write the image NAME of the registry as one tar: an OCI layout, which `docker load` takes as well.

    Exit code 0: written; 2: the registry lacks it, or a part of it is damaged; 1: a file or usage error; 3: the registry could not be reached.
    """
    reference = parse(name)
    setup = None if registry else read(files_or_default(files))

    async def work() -> None:
        async with open_registry(setup, registry) as found:
            await found.ping()
            repository = repository_of(setup, found, name)
            with byte_bar(str(out or name)) as advance:
                async with archive_to(out) as writer:
                    done = await Exporter(found).export(repository, reference, platform, writer, advance)
        for each in done.notes:
            note(f"{name}: {each}")
        complaints().print(f"{name}  {done.digest}  {size(done.bytes)}")

    try:
        run_to_end(work())
    except RemoteError as error:
        complain(name, error)
        return Exit.UNREACHABLE if isinstance(error, UnreachableError) else Exit.NOT_CONVERGED
    return Exit.OK
