"""`wharf build`: one Dockerfile folder to the registry, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.cli.doors import through
from controller.cli.loop import run_to_end
from controller.domain.actions import Kind
from controller.domain.desired import BuildSource
from controller.domain.errors import UsageError
from controller.domain.reference import parse_local
from controller.engine.doors import building
from controller.settings import files_or_default
from controller.wiring import Setup, check_folder, named_in, read


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    folder: Path
    name: str | None
    host: str | None
    args: Sequence[str]
    target: str
    platform: str


def build(wanted: Wanted, files: tuple[Path, ...], state: str | None) -> int:
    """`wharf build`."""
    setup = read(files_or_default(files))
    host = _host(setup, wanted.host)
    source = BuildSource(str(wanted.folder.absolute()), host, args=_args(wanted.args), target=wanted.target, platform=wanted.platform)
    name = str(parse_local(wanted.name or named_in(wanted.folder)))
    run_to_end(check_folder(source))
    return through(setup, state, "build", building(setup.desired, name, source), {Kind.BUILD})


def _host(setup: Setup, name: str | None) -> str:
    """The host that builds."""
    names = [host.name for host in setup.desired.hosts]
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise UsageError(f"say which host builds, --on HOST: the file has {', '.join(sorted(names)) or 'none'}")
    if name not in names:
        raise UsageError(f"--on {name}: no such host; the file has {', '.join(sorted(names)) or 'none'}")
    return name


def _args(said: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Build arguments, sorted as a file's are."""
    wrong = next((each for each in said if not each.partition("=")[1] or not each.partition("=")[0]), None)
    if wrong is not None:
        raise UsageError(f"--arg {wrong.partition('=')[0]}: expected NAME=VALUE")
    return tuple(sorted({name: value for name, _, value in (each.partition("=") for each in said)}.items()))
