"""`wharf gc`: collects the registry's garbage, and says what was won and what is proven."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit
from controller.cli.loop import run_to_end
from controller.cli.options import CONFIG, OUTPUT, PATHS, STATE
from controller.cli.printing import print_data, table_console
from controller.cli.sizes import blobs_of, size_of, tell_unread, total, usage_row, usage_table
from controller.cli.verdicts import broken_row, lines_of, reading
from controller.domain.errors import RefusedError, UsageError
from controller.domain.ports.collecting import Marked
from controller.domain.ports.stores import AuditEntry, Store
from controller.domain.spec import Mode
from controller.domain.texts import size
from controller.domain.usage import Survey
from controller.domain.verdict import Found, Verdict
from controller.engine.collect import COLLECT, Cache, Collected, Terms, expired_by
from controller.engine.survey import survey
from controller.engine.sweep import EXPIRE
from controller.settings import files_or_default
from controller.wiring.collecting import Collecting, collector_of, gateway_goes_on, open_collection, registry_config
from controller.wiring.registries import verifier_of
from controller.wiring.setup import Setup, of_registry, read
from controller.wiring.state import recorded

_TRAIL = 100_000
"""Entries of the audit trail that are looked at for what was let go of."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `rate` is in megabytes a second."""

    config: Path | None
    collector: str | None
    restart: str | None
    patience: float
    rate: float | None
    dry_run: bool
    registry: str | None
    gateway: str | None
    output: str


@dataclass(frozen=True, slots=True)
class _Done:
    """The whole run: the registry before and after, what its folder held, what was collected, and each image as it was read afterwards."""

    before: Survey
    after: Survey
    disk: tuple[int, int] | None
    collected: Collected
    proof: tuple[Verdict, ...]
    read: int

    @property
    def broken(self) -> int:
        """How many images are not whole."""
        return sum(not verdict.whole for verdict in self.proof) + len(self.after.unread.keys() - {verdict.target for verdict in self.proof})


@click.command("gc")
@PATHS
@CONFIG
@click.option(
    "--collector", metavar="COMMAND", help="What collects instead of `docker-registry garbage-collect REGISTRY.yml`; it must know --dry-run."
)
@click.option("--restart", metavar="COMMAND", help="Restarts the registry, where that shall empty its blob cache.")
@click.option("--patience", type=click.FloatRange(min=0), default=300, show_default=True, metavar="SECONDS", help="Wait so long for who writes.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="MB", help="Read at most so many megabytes a second for the proof.")
@click.option("--dry-run", is_flag=True, help="Say what would be collected; change nothing.")
@click.option("--registry", metavar="URL", help="Without any file: the registry.")
@click.option("--gateway", metavar="ADDR:PORT", help="With --registry: where `wharf gateway` serves before it.")
@STATE
@OUTPUT
def gc(*, files: tuple[Path, ...], state: str | None, **said: Any) -> int:  # noqa: ANN401 - the options, as Wanted names them
    """Collect the registry's garbage without an outage: writes are held off, reads go on, and every image is read and hashed afterwards.

    Runs the registry's own collector, beside `wharf run` or without it. Deletes nothing that a tag names. A registry in a container:
    --collector 'docker exec registry registry garbage-collect /etc/docker/registry/config.yml'.
    Exit code 0: collected, and all is whole; 2: something is broken, or was not done; 1: a file or usage error, or somebody still writes;
    3: the registry could not be reached.
    """
    wanted = Wanted(**said)
    if wanted.registry and files:
        raise UsageError("--registry is for who has no file: say either")
    if wanted.gateway and not wanted.registry:
        raise UsageError("--gateway goes with --registry; a file says it as spec.gateway.listen")
    setup = of_registry(wanted.registry, wanted.gateway) if wanted.registry else read(files_or_default(files))
    if setup.desired.mode is Mode.OBSERVE and not wanted.dry_run:
        raise UsageError("spec.mode is Observe, so nothing is collected; --dry-run shows what would be")
    config = registry_config(wanted.config)
    program = collector_of(config, wanted.collector, wanted.restart)
    console = Console(stderr=wanted.output != "table", soft_wrap=True, highlight=False)

    async def work() -> int:
        with recorded(setup, state) as store:
            expired = expired_by(store.history(limit=_TRAIL, actions={EXPIRE}))
            async with open_collection(setup, store, config, program, expired) as parts:
                if wanted.dry_run:
                    return _told_what_would_be(*await _look(parts), wanted.output)
                return await _collected(setup, store, parts, wanted, console)

    return run_to_end(work())


async def _look(parts: Collecting) -> tuple[Survey, Marked, Mapping[str, int] | None]:
    seen = await survey(parts.registry)
    return seen, await parts.collection.would(seen), await blobs_of(parts.folder, seen)


async def _collected(setup: Setup, store: Store, parts: Collecting, wanted: Wanted, console: Console) -> int:
    if setup.wharf.gateway is None:
        console.print(Text.assemble(("note: ", "yellow"), "no gateway is named: whoever pushes to the registry itself is not held off"))
    began = time.monotonic()
    before = await survey(parts.registry)
    disk = size_of(await blobs_of(parts.folder, before))
    terms = Terms(wanted.patience, parts.config.cached if parts.config else None, bool(wanted.restart), lambda: gateway_goes_on(setup))
    try:
        collected = await parts.collection.collect(terms)
    except RefusedError as error:
        _record(store, parts, "", 0, time.monotonic() - began, str(error))
        console.print(Text.assemble(("not collected: ", "red"), str(error)))
        return Exit.NOT_CONVERGED
    for repository, digests in collected.gone.items():
        for digest in digests:
            _record(store, parts, f"{repository}@{digest}", 0, 0.0, "", reason="Expired", before=digest)
    _record(store, parts, "", collected.bytes or 0, time.monotonic() - began, "")
    if wanted.output == "table":
        for line in _what(collected):
            console.print(line)
    after = await survey(parts.registry)
    with reading(console) as advance:
        verifier = verifier_of(parts.registry, (wanted.rate or 0.0) * 1_000_000, advance)
        found = await verifier.verify(dict.fromkeys(after.tags.keys() | after.unread.keys(), ()))
    proof = tuple(each for each in found if not _is_deleted(each))
    left = size_of(await blobs_of(parts.folder, after))
    done = _Done(before, after, None if disk is None or left is None else (disk, left), collected, proof, verifier.bytes)
    if done.broken:
        _record(store, parts, "", 0, time.monotonic() - began, f"{done.broken} of {len(done.proof)} images are broken", reason="Proof")
    _report(done, wanted.output)
    return Exit.NOT_CONVERGED if done.broken or collected.cache is Cache.REMEMBERS else Exit.OK


def _is_deleted(verdict: Verdict) -> bool:
    """Somebody took the tag away since it was listed."""
    return bool(verdict.broken) and all(each.found is Found.ABSENT for each in verdict.broken)


def _record(store: Store, parts: Collecting, image: str, count: int, seconds: float, error: str, *, reason: str = "Asked", before: str = "") -> None:
    entry = AuditEntry(time.time(), "gc", COLLECT, image or parts.registry.address, "", reason, before, "", count, round(seconds, 3), error)
    store.record(entry)


def _what(collected: Collected) -> Iterator[Text]:
    won = "how much that is, only the registry's own disk tells" if collected.bytes is None else size(collected.bytes) or "0 B"
    yield Text(
        f"Collected {collected.blobs} blob{'s' * (collected.blobs != 1)} ({won}); writes were held off for {collected.held_off:.1f} s.", "bold"
    )
    manifests = sum(map(len, collected.gone.values()))
    if manifests:
        yield Text(f"{manifests} manifest{'s' * (manifests != 1)} went with them, which had been held until keepHeld was over.")
    match collected.cache:
        case Cache.CLEARED:
            yield Text(f"The registry's blob cache remembered them; that was cleared, as asking for each showed ({collected.links} links).")
        case Cache.RESTARTED:
            yield Text("The registry's blob cache remembered them; it was restarted, and remembers no more.")
        case Cache.REMEMBERS:
            yield Text("The registry's blob cache still remembers some of them: restart it. Until then what it says to have is read first.", "red")
        case Cache.OFF:
            pass


def _report(done: _Done, output: str) -> None:
    if output != "table":
        return print_data(_row(done), output)
    out = table_console()
    out.print(usage_table(done.after.usage))
    out.print(Text("Before: ").append_text(total(done.before.usage, done.disk[0] if done.disk else None)))
    out.print(Text("After:  ").append_text(total(done.after.usage, done.disk[1] if done.disk else None)))
    for verdict in done.proof:
        if not verdict.whole:
            for line in lines_of(verdict):
                out.print(line)
    tell_unread(out, done.after)
    if done.broken:
        out.print(
            Text(f"{len(done.proof)} images were read, {done.broken} are broken: `wharf verify --all --repair` brings again what it can.", "red")
        )
    else:
        out.print(
            Text(f"Proven: {len(done.proof)} image{'s' * (len(done.proof) != 1)}, all whole, {size(done.read) or '0 B'} read and hashed.", "green")
        )
    return None


def _row(done: _Done) -> dict[str, Any]:
    collected = done.collected
    return {
        "before": usage_row(done.before.usage, done.disk[0] if done.disk else None),
        "after": usage_row(done.after.usage, done.disk[1] if done.disk else None),
        "collected": {
            "blobs": collected.blobs,
            "bytes": collected.bytes,
            "manifests": [f"{repository}@{digest}" for repository, digests in collected.gone.items() for digest in digests],
        },
        "writesHeldOff": round(collected.held_off, 3),
        "cache": str(collected.cache),
        "proof": {
            "images": len(done.proof),
            "broken": [
                {"image": str(verdict.target), "parts": [broken_row(each) for each in verdict.broken]} for verdict in done.proof if not verdict.whole
            ],
            "bytes": done.read,
        },
    }


def _told_what_would_be(seen: Survey, marked: Marked, blobs: Mapping[str, int] | None, output: str) -> int:
    known = None if blobs is None else sum(blobs.get(digest, 0) for digest in marked.garbage)
    disk = size_of(blobs)
    if output != "table":
        would = {"blobs": len(marked.garbage), "bytes": known}
        print_data({"before": usage_row(seen.usage, disk), "would": would}, output)
        return Exit.OK
    out = table_console()
    out.print(usage_table(seen.usage))
    out.print(total(seen.usage, disk))
    much = "" if known is None else f" ({size(known) or '0 B'})"
    out.print(f"Would collect {len(marked.garbage)} blob{'s' * (len(marked.garbage) != 1)}{much}, and what expired until then. Nothing was changed.")
    tell_unread(out, seen)
    return Exit.OK
