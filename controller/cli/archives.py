"""`wharf import` and `wharf export`: archives into the registry, and out of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.domain.archived import Packing
from controller.domain.errors import CollectingError, RemoteError, UnreachableError, WharfError
from controller.domain.ports import Advance, Store
from controller.domain.reference import Target, parse, parse_local
from controller.domain.texts import size
from controller.engine.exporting import Exporter
from controller.engine.importing import Imported, Importer
from controller.engine.manifests import Manifests
from controller.engine.recording import record_import
from controller.settings import files_or_default
from controller.wiring import Locate, archive_to, image_archives, open_registry, place_of, read, recorded, repository_of


def import_(paths: Sequence[str], name: str | None, registry: str | None, compression: str, files: tuple[Path, ...], state: str | None) -> int:
    """`wharf import`. Where files name the Wharf, its audit trail tells of it; with a registry alone there is none."""
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
                    _complain(path, error)
                    code = Exit.NOT_CONVERGED
                worst = max(worst, code, key=_badness)
            return worst

    if setup is None:
        return run_to_end(work(None))
    with recorded(setup, state) as store:
        return run_to_end(work(store))


def export(name: str, out: Path | None, platform: str, registry: str | None, files: tuple[Path, ...]) -> int:
    """`wharf export`."""
    reference = parse(name)
    setup = None if registry else read(files_or_default(files))

    async def work() -> None:
        async with open_registry(setup, registry) as found:
            await found.ping()
            repository = repository_of(setup, found, name)
            with _bar(str(out or name)) as advance:
                async with archive_to(out) as writer:
                    done = await Exporter(found).export(repository, reference, platform, writer, advance)
        for note in done.notes:
            _note(f"{name}: {note}")
        complaints().print(f"{name}  {done.digest}  {size(done.bytes)}")

    try:
        run_to_end(work())
    except RemoteError as error:
        _complain(name, error)
        return Exit.UNREACHABLE if isinstance(error, UnreachableError) else Exit.NOT_CONVERGED
    return Exit.OK


def _badness(code: Exit) -> int:
    """What counts most when several things went wrong: no registry, then a file, then an image."""
    return [Exit.OK, Exit.NOT_CONVERGED, Exit.USAGE, Exit.UNREACHABLE].index(code)


async def _one(importer: Importer, path: str, name: Target | None, locate: Locate, store: Store | None) -> Exit:
    """One archive; what is wrong with it does not stop the next one."""
    worst = Exit.OK
    try:
        with _bar(path) as advance:
            async for done in importer.import_archive(path, name=name, locate=locate, advance=advance):
                if store is not None:
                    record_import(store, done, time.time())
                _say(done)
                if done.error is not None:
                    code = Exit.UNREACHABLE if isinstance(done.error, UnreachableError) else Exit.NOT_CONVERGED
                    worst = max(worst, code, key=_badness)
    except WharfError as error:
        _complain(path, error)
        return Exit.UNREACHABLE if isinstance(error, UnreachableError) else Exit.USAGE
    return worst


def _say(done: Imported) -> None:
    """One line an image: its name, digest, bytes and seconds; or on standard error why it is not there."""
    name = str(done.target or done.title)
    if done.error is not None:
        _complain(name, done.error)
        return
    how = "there already" if done.held else f"{size(done.bytes) or '0 B'} in {done.seconds:.1f} s"
    sys.stdout.write(f"{name}  {done.digest}  {how}\n")
    sys.stdout.flush()
    if done.note:
        _note(f"{name}: {done.note}")


def _complain(name: str, error: WharfError) -> None:
    said = str(error)
    words = said if name in said else f"{name}: {said}"
    complaints().print(Text.assemble(("error: ", "red"), words))


def _note(words: str) -> None:
    complaints().print(Text.assemble(("note: ", "yellow"), words))


@contextmanager
def _bar(path: str) -> Iterator[Advance]:
    """A bar on a terminal, nothing elsewhere: the lines say it all."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    total = Path(path).stat().st_size if path != "-" and Path(path).is_file() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(path, total=total)
        yield lambda count: bars.advance(task, count)
