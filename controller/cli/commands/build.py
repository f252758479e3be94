"""`wharf build`: one Dockerfile folder to the registry, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from controller.cli.doors import through
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, STATE
from controller.domain.actions import Kind
from controller.domain.desired import BuildSource
from controller.domain.errors import UsageError
from controller.domain.reference import parse_local
from controller.engine.doors import building
from controller.settings import files_or_default
from controller.wiring.folders import check_folder, named_in
from controller.wiring.setup import Setup, read


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    folder: Path
    name: str | None
    host: str | None
    args: Sequence[str]
    target: str
    platform: str


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", help="repository:tag in the registry. Default: what DIR/image.yaml says, else the folder's name.")
@click.option("--on", "host", metavar="HOST", help="The host that builds. Default: the only one of the files.")
@FILES
@click.option("--arg", "args", multiple=True, metavar="K=V", help="A build argument; may be given several times.")
@click.option("--target", default="", metavar="STAGE", help="The stage to build.")
@click.option("--platform", default="", metavar="OS/ARCH", help="What to build for. Default: the engine's own.")
@STATE
def build(
    folder: Path, name: str | None, host: str | None, files: tuple[Path, ...], args: tuple[str, ...], target: str, platform: str, state: str | None
) -> int:
    """Build a Dockerfile folder on a host, bring the image to the registry, prove it there, and take it off the host.

    Skipped when the registry's image was built from the very same folder. Exit code 0: it is in the registry; 2: it failed; 1: a file or usage error;
    3: the registry or the host could not be reached.
    """
    wanted = Wanted(folder, name, host, args, target, platform)
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
