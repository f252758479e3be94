"""`wharf import`: archives into the registry."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from controller.cli.errors import Exit, complain, note
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, REGISTRY, STATE
from controller.cli.progress import byte_bar
from controller.domain.archived import Packing
from controller.domain.errors import CollectingError, UnreachableError, WharfError
from controller.domain.ports.stores import Store
from controller.domain.reference import Target, parse_local
from controller.domain.texts import size
from controller.engine.importing import Imported, Importer
from controller.engine.manifests import Manifests
from controller.engine.recording import record_import
from controller.settings import files_or_default
from controller.wiring.archives import image_archives
from controller.wiring.registries import Locate, open_registry, place_of
from controller.wiring.setup import read
from controller.wiring.state import recorded


@click.command("import")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--name", metavar="NAME", help="The name in the registry, for an archive of one image; default: the names that the archive gives.")
@REGISTRY
@click.option(
    "--compression",
    type=click.Choice([each.value for each in Packing]),
    default=Packing.FAST.value,
    show_default=True,
    help="How plain layers are packed; engines before 23 can't read zstd.",
)
@FILES
@STATE
def import_(paths: tuple[str, ...], name: str | None, registry: str | None, compression: str, files: tuple[Path, ...], state: str | None) -> int:
    """Bring image archives into the registry: docker save or OCI layout, as tar, tar.gz, tar.zst or folder; `-` is standard input.

    Unless --registry is given, `wharf history` of the files' Wharf tells of it. Works while `wharf run` does.
    Exit code 0: all imported; 2: an image failed; 1: a file or usage error; 3: the registry could not be reached.
    """
    target = parse_local(name) if name else None
    setup = None if registry else read(files_or_default(files))

    async def work(store: Store | None) -> int:
        async with open_registry(setup, registry, state) as found:
            await found.ping()
            importer = Importer(found, image_archives(), Manifests(), packing=Packing(compression))
            worst = Exit.OK
            for path in paths:
                try:
                    with found.writing():
                        code = await _one(importer, path, target, place_of(setup, found), store)
                except CollectingError as error:
                    complain(path, error)
                    code = Exit.NOT_CONVERGED
                worst = max(worst, code, key=_badness)
            return worst

    if setup is None:
        return run_to_end(work(None))
    with recorded(setup, state) as store:
        return run_to_end(work(store))


def _badness(code: Exit) -> int:
    """What counts most when several things went wrong: no registry, then a file, then an image."""
    return [Exit.OK, Exit.NOT_CONVERGED, Exit.USAGE, Exit.UNREACHABLE].index(code)


async def _one(importer: Importer, path: str, name: Target | None, locate: Locate, store: Store | None) -> Exit:
    """One archive; what is wrong with it does not stop the next one."""
    worst = Exit.OK
    try:
        with byte_bar(path) as advance:
            async for done in importer.import_archive(path, name=name, locate=locate, advance=advance):
                if store is not None:
                    record_import(store, done, time.time())
                _say(done)
                if done.error is not None:
                    code = Exit.UNREACHABLE if isinstance(done.error, UnreachableError) else Exit.NOT_CONVERGED
                    worst = max(worst, code, key=_badness)
    except WharfError as error:
        complain(path, error)
        return Exit.UNREACHABLE if isinstance(error, UnreachableError) else Exit.USAGE
    return worst


def _say(done: Imported) -> None:
    """One line an image: its name, digest, bytes and seconds; or on standard error why it is not there."""
    name = str(done.target or done.title)
    if done.error is not None:
        complain(name, done.error)
        return
    how = "there already" if done.held else f"{size(done.bytes) or '0 B'} in {done.seconds:.1f} s"
    sys.stdout.write(f"{name}  {done.digest}  {how}\n")
    sys.stdout.flush()
    if done.note:
        note(f"{name}: {done.note}")
