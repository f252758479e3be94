"""`wharf`: see what is wrong, make it right, keep it right."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from controller import __version__
from controller.cli import archives, building, commands, doors, explain, gateway, history, logs, rangeconfig
from controller.cli import collect as collecting
from controller.cli import migrate as migrating
from controller.cli import restore as restoring
from controller.cli import usage as using
from controller.cli import verify as verifying
from controller.cli.errors import Exit, complaints
from controller.domain.archived import Packing
from controller.domain.errors import RemoteError, WharfError
from controller.domain.spec import Who

_PATHS = click.argument("files", nargs=-1, type=click.Path(path_type=Path))
_FILES = click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="A desired-state file or folder; may be given several times."
)
_STATE = click.option(
    "--state", type=click.Path(), envvar="WHARF_STATE", help="The state file, or a folder for it. Default: the platform's state folder."
)
_OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="The form of the output."
)
_ALLOW = click.option(
    "--allow-deletes", type=click.IntRange(min=0), default=0, metavar="N", help="Let one plan evict and delete N images, beyond limits.deletes."
)
_CONFIRM = click.option("--confirm-engine", multiple=True, metavar="HOST", help="The engine of this host was replaced, and that is meant.")

_REFRESH = click.option("--refresh", is_flag=True, help="Ask upstreams for every tag now, also for what they were asked within `refresh`.")

Command = Callable[..., Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("-v", "--verbose", is_flag=True, help="Log more, on standard error.")
@click.option(
    "--log",
    type=click.Choice([each.value for each in logs.Form]),
    default=logs.Form.HUMAN.value,
    show_default=True,
    envvar="WHARF_LOG",
    help="How logs are written on standard error: for people, or one JSON object a line.",
)
def wharf(*, verbose: bool, log: str) -> None:
    """Keep every image in one registry and the hosts clear, as a YAML file says.

    FILES are desired-state files or folders; default: desired-state.yaml, then config/desired-state.yaml.
    """
    logs.set_up(logs.Form(log), verbose=verbose)


@wharf.command()
@_PATHS
@_OUTPUT
def validate(files: tuple[Path, ...], output: str) -> int:
    """Check the files; say every problem with its file, line and column."""
    return commands.validate(files, output)


@wharf.command()
@_PATHS
@_STATE
@_OUTPUT
@_ALLOW
@_REFRESH
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan, for `wharf apply --plan`.")
def plan(files: tuple[Path, ...], state: str | None, output: str, allow_deletes: int, *, refresh: bool, out: Path | None) -> int:
    """Show what `apply` would do, and what is held back and why. Changes nothing.

    Exit code 0: converged; 2: not; 1: a file or usage error; 3: the registry, or every host, could not be reached.
    """
    return commands.plan(files, state, output, allow_deletes, out, refresh=refresh)


@wharf.command()
@_PATHS
@_STATE
@_OUTPUT
@_ALLOW
@_CONFIRM
@_REFRESH
@click.option(
    "--plan",
    "saved",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Do exactly this saved plan, or refuse because the world has moved.",
)
def apply(
    files: tuple[Path, ...],
    state: str | None,
    output: str,
    allow_deletes: int,
    confirm_engine: tuple[str, ...],
    saved: Path | None,
    *,
    refresh: bool,
) -> int:
    """Make it right once.

    Exit code 0: converged afterwards; 2: not (the table says which image and why); 1: a file or usage error; 3: nothing could be reached.
    """
    return commands.apply(files, state, output, allow_deletes, confirm_engine, saved, refresh=refresh)


@wharf.command()
@_PATHS
@_STATE
@_ALLOW
@_CONFIRM
def run(files: tuple[Path, ...], state: str | None, allow_deletes: int, confirm_engine: tuple[str, ...]) -> int:
    """Keep it right: at once when something changes, and at every interval, until SIGTERM or Ctrl-C.

    SIGHUP asks for a full look now, at which every upstream is asked.
    """
    return commands.run(files, state, allow_deletes, confirm_engine)


@wharf.command()
@_PATHS
@_STATE
@_OUTPUT
@_REFRESH
def status(files: tuple[Path, ...], state: str | None, output: str, *, refresh: bool) -> int:
    """Show where every image is and what is wrong with it. Changes nothing; exit codes as `plan`."""
    return commands.status(files, state, output, refresh=refresh)


_REGISTRY = click.option("--registry", metavar="URL", help="The registry, with docker's credentials for it; default: the one that the files name.")
_FILES = click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="A desired-state file or folder; may be repeated."
)


@wharf.command("import")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--name", metavar="NAME", help="The name in the registry, for an archive of one image; default: the names that the archive gives.")
@_REGISTRY
@click.option(
    "--compression",
    type=click.Choice([each.value for each in Packing]),
    default=Packing.FAST.value,
    show_default=True,
    help="How plain layers are packed; engines before 23 can't read zstd.",
)
@_FILES
@_STATE
def import_(paths: tuple[str, ...], name: str | None, registry: str | None, compression: str, files: tuple[Path, ...], state: str | None) -> int:
    """Bring image archives into the registry: docker save or OCI layout, as tar, tar.gz, tar.zst or folder; `-` is standard input.

    Unless --registry is given, `wharf history` of the files' Wharf tells of it. Works while `wharf run` does.
    Exit code 0: all imported; 2: an image failed; 1: a file or usage error; 3: the registry could not be reached.
    """
    return archives.import_(paths, name, registry, compression, files, state)


@wharf.command()
@click.argument("name")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file; default: standard output.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Only this platform of an image that has several.")
@_REGISTRY
@_FILES
def export(name: str, out: Path | None, platform: str, registry: str | None, files: tuple[Path, ...]) -> int:
    """Write the image NAME of the registry as one tar: an OCI layout, which `docker load` takes as well.

    Exit code 0: written; 2: the registry lacks it, or a part of it is damaged; 1: a file or usage error; 3: the registry could not be reached.
    """
    return archives.export(name, out, platform, registry, files)


@wharf.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", help="repository:tag in the registry. Default: what DIR/image.yaml says, else the folder's name.")
@click.option("--on", "host", metavar="HOST", help="The host that builds. Default: the only one of the files.")
@click.option("-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), metavar="FILES", help="Desired-state files or folders.")
@click.option("--arg", "args", multiple=True, metavar="K=V", help="A build argument; may be given several times.")
@click.option("--target", default="", metavar="STAGE", help="The stage to build.")
@click.option("--platform", default="", metavar="OS/ARCH", help="What to build for. Default: the engine's own.")
@_STATE
def build(
    folder: Path, name: str | None, host: str | None, files: tuple[Path, ...], args: tuple[str, ...], target: str, platform: str, state: str | None
) -> int:
    """Build a Dockerfile folder on a host, bring the image to the registry, prove it there, and take it off the host.

    Skipped when the registry's image was built from the very same folder. Exit code 0: it is in the registry; 2: it failed; 1: a file or usage error;
    3: the registry or the host could not be reached.
    """
    return building.build(building.Wanted(folder, name, host, args, target, platform), files, state)


@wharf.command()
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
    return commands.init(engine, registry, out)


@wharf.command()
@click.argument("image")
@click.option("--host", required=True, metavar="HOST", help="The host that has it.")
@_FILES
@_STATE
def push(image: str, host: str, files: tuple[Path, ...], state: str | None) -> int:
    """Bring a host's IMAGE to the registry, and read it back. It stays on the host.

    Without a domain it is a local name, as in a set. What the host pulled comes from upstream itself while that still has it.
    Exit code 0: the registry has it; 2: not, and why; 1: a file or usage error; 3: nothing could be reached.
    """
    return doors.push(files, state, image, host)


@wharf.command()
@click.argument("image")
@click.option("--host", default=None, metavar="HOST", help="Bring it from the registry to this host, instead of from upstream to the registry.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be given several times.")
@_FILES
@_STATE
def pull(image: str, host: str | None, platforms: tuple[str, ...], files: tuple[Path, ...], state: str | None) -> int:
    """Bring IMAGE from its upstream to the registry; with --host from the registry to a host.

    Exit codes as `push`.
    """
    return doors.pull(files, state, image, host, platforms)


@wharf.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option("--host", metavar="HOST", help="The host of the files; default: the only one.")
@click.option(
    "--from-host", "engine", is_flag=False, flag_value="env", metavar="[ENGINE]", help="Without any file: this engine; default: DOCKER_HOST or local."
)
@click.option("--registry", metavar="URL", help="With --from-host: the registry that shall hold the images.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="Leave these alone, beside what `keep` of the host says.")
@click.option("--no-evict", is_flag=True, help="Bring the images to the registry, and leave them on the host too.")
@click.option("--dry-run", is_flag=True, help="Show the plan and the space to be won; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, within limits.deletes or --allow-deletes.")
@_ALLOW
@_CONFIRM
@_FILES
@_STATE
@_OUTPUT
def migrate(*, files: tuple[Path, ...], state: str | None, **said: Any) -> int:  # noqa: ANN401 - the options, as Wanted names them
    """Bring a host's images whose names match PATTERN to the registry, prove each there, and take it off the host: all in one go.

    PATTERN is a glob, such as 'cyroid/**'. The plan is shown first, with the space to be won. It can be stopped, and goes on when run again.
    Exit code 0: all that matched is in the registry and off the host; 2: something stays (the report says why); 1: a file or usage error;
    3: the registry or the host could not be reached; 130, 143: stopped.
    """
    return migrating.migrate(files, state, migrating.Wanted(**said))


@wharf.command("gateway")
@click.option("--listen", default="127.0.0.1:5001", show_default=True, metavar="ADDR:PORT", help="Where to serve.")
@click.option("--registry", required=True, metavar="URL", help="The registry that keeps everything.")
@click.option("--upstream", "upstreams", multiple=True, metavar="DOMAIN[=URL]", help="May be pulled through; default: docker.io, ghcr.io, quay.io.")
@click.option("--private", multiple=True, metavar="DOMAIN", help="What is this upstream's is given to users only.")
@click.option("--htpasswd", type=click.Path(), help="Users and their passwords, as `htpasswd -B` writes them.")
@click.option("--pull", type=click.Choice(list(Who)), help="Who may pull. Default: Anyone on a loopback address, else Users.")
@click.option("--push", type=click.Choice(list(Who)), help="Who may push and delete. Default: the same.")
@click.option("--redirect", is_flag=True, help="Send clients to the registry itself for blobs that it has.")
@_STATE
def gateway_(state: str | None, **options: Any) -> int:  # noqa: ANN401 - as declared above
    """Serve one address for a registry and upstreams: push to it, pull through it. Needs no Docker socket."""
    return gateway.gateway(gateway.Options(**options), state)


@wharf.command("history")
@click.argument("image", required=False)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many, the newest.")
@_OUTPUT
@_FILES
@_STATE
def history_(image: str | None, limit: int, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Show what was done and what failed, the newest first: of IMAGE, or of all.

    IMAGE is a name as a set writes it, or as the registry has it. Reads the state file only, so it works while `wharf run` does.
    """
    return history.history(files, state, output, image, limit)


@wharf.command("explain")
@click.argument("image")
@_OUTPUT
@_FILES
@_STATE
def explain_(image: str, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Say why IMAGE is where it is: where it is, what asks for it, where it came from, and what comes next. Changes nothing.

    IMAGE is a name as a set writes it, or as the registry has it. Exit codes as `plan`, for this one image.
    """
    return explain.explain(files, state, output, image)


@wharf.command()
@click.argument("image")
@click.option("--to", metavar="DIGEST", help="What it shall mean: a manifest that the repository still has.")
@click.option("--held", metavar="TAG", help="The same by the tag that holds it, wharf-held-...")
@click.option("--list", "listing", is_flag=True, help="Only show what there is to restore. Changes nothing.")
@_OUTPUT
@_FILES
@_STATE
def restore(image: str, to: str | None, held: str | None, *, listing: bool, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Give IMAGE back what it meant before it was overwritten, or before it was deleted. What it means now is held first.

    IMAGE is a name as a set writes it, or as the registry has it. Exit code 0: restored; 2: nothing, or several to choose from; 1: a file or usage
    error; 3: the registry could not be reached.
    """
    return restoring.restore(files, state, output, image, restoring.Wanted(to, held, listing))


@wharf.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the registry lists, held tags too, not only what the sets name.")
@click.option("--repair", is_flag=True, help="Bring what is broken again: from upstream, an archive or a host that still has it.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="MB", help="Read at most so many megabytes a second.")
@_FILES
@_STATE
@_OUTPUT
def verify(
    images: tuple[str, ...], *, everything: bool, repair: bool, rate: float | None, files: tuple[Path, ...], state: str | None, output: str
) -> int:
    """Read all that the sets name in the registry, every byte, and hash it; IMAGE is a name of a set or a pattern. Deletes nothing, ever.

    Exit code 0: all is whole, or was made so; 2: something is broken; 1: a file or usage error; 3: the registry could not be reached.
    """
    return verifying.verify(files, state, verifying.Wanted(images, everything, repair, (rate or 0.0) * 1_000_000, output))


_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="REGISTRY.yml",
    help="The configuration that the registry runs with.",
)


@wharf.command("gc")
@_PATHS
@_CONFIG
@click.option(
    "--collector", metavar="COMMAND", help="What collects instead of `docker-registry garbage-collect REGISTRY.yml`; it must know --dry-run."
)
@click.option("--restart", metavar="COMMAND", help="Restarts the registry, where that shall empty its blob cache.")
@click.option("--patience", type=click.FloatRange(min=0), default=300, show_default=True, metavar="SECONDS", help="Wait so long for who writes.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="MB", help="Read at most so many megabytes a second for the proof.")
@click.option("--dry-run", is_flag=True, help="Say what would be collected; change nothing.")
@click.option("--registry", metavar="URL", help="Without any file: the registry.")
@click.option("--gateway", metavar="ADDR:PORT", help="With --registry: where `wharf gateway` serves before it.")
@_STATE
@_OUTPUT
def gc_(*, files: tuple[Path, ...], state: str | None, **said: Any) -> int:  # noqa: ANN401 - the options, as Wanted names them
    """Collect the registry's garbage without an outage: writes are held off, reads go on, and every image is read and hashed afterwards.

    Runs the registry's own collector, beside `wharf run` or without it. Deletes nothing that a tag names. A registry in a container:
    --collector 'docker exec registry registry garbage-collect /etc/docker/registry/config.yml'.
    Exit code 0: collected, and all is whole; 2: something is broken, or was not done; 1: a file or usage error, or somebody still writes;
    3: the registry could not be reached.
    """
    return collecting.collect(files, state, collecting.Wanted(**said))


@wharf.command("usage")
@_PATHS
@_CONFIG
@click.option("--registry", metavar="URL", help="Without any file: the registry.")
@_OUTPUT
def usage_(files: tuple[Path, ...], config: Path | None, registry: str | None, output: str) -> int:
    """Show what the registry stores: the bytes that each repository's tags name, what it shares with others, and all together.

    With --config also what is on the disk, and how much of it no tag names. Changes nothing.
    """
    return using.usage(files, config, registry, output)


@wharf.command()
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many, the newest.")
@_OUTPUT
@_FILES
@_STATE
def pulls(limit: int, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Show what was pulled through the gateway, and what ranges have: which image, by whom, from where, and whether it is kept."""
    return history.pulls(files, state, output, limit)


@wharf.command("range-config")
@click.argument("kind", type=click.Choice(list(rangeconfig.KINDS)), default="range")
@click.option("--address", metavar="HOST:PORT", help="How the gateway or the registry is reached from there; default: as the files say.")
@click.option("--tls/--insecure", default=None, help="Whether it speaks TLS there; default: as the files say, with --address it does not.")
@click.option(
    "-o", "--output", type=click.Choice(list(rangeconfig.FORMS)), default="text", show_default=True, help="All files, or one of them alone."
)
@_FILES
def range_config(kind: str, address: str | None, output: str, *, tls: bool | None, files: tuple[Path, ...]) -> int:
    """Print what a range, a host or a node of a cluster is told, so that it pulls from here: daemon.json, hosts.toml, and where each belongs."""
    return rangeconfig.range_config(files, rangeconfig.Wanted(kind, address, tls, output))


@wharf.command()
def schema() -> int:
    """Print the JSON Schema of the files, for editors."""
    return commands.schema()


@wharf.command()
@_OUTPUT
def version(output: str) -> int:
    """Print the version."""
    return commands.version(output)


def main() -> None:
    """The entry point: every failure becomes words and an exit code."""
    # Little of what is made here forms cycles: looking for them as often as Python does takes a tenth of the time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.exit(_guarded(lambda: wharf.main(standalone_mode=False, prog_name="wharf")))


def _guarded(do: Callable[[], Any]) -> int:
    try:
        return int(do() or 0)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except RemoteError as error:
        _say(str(error))
        return Exit.UNREACHABLE
    except WharfError as error:
        _say(str(error))
        return Exit.USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted", mark="")
        return 128 + signal.SIGINT
    except OSError as error:
        _say(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        return Exit.USAGE
    except Exception as error:
        logging.getLogger(__name__).debug("a defect", exc_info=True)
        _say(f"a defect in wharf {__version__}: {type(error).__name__}: {error} (run again with -v and report it)")
        return Exit.USAGE


def _say(words: str, mark: str = "error: ") -> None:
    """The last word on standard error: a record where that is for a machine."""
    if logs.is_json():
        logging.getLogger(__name__).error(words, extra={"error": words})
    else:
        complaints().print(Text.assemble((mark, "red"), words))


if __name__ == "__main__":
    main()
