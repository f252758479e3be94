"""`wharf range-config`: what a range, a host or a node is told, so that it pulls from the registry or through the gateway."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from controller.cli.errors import Exit, complaints
from controller.cli.options import FILES
from controller.cli.printing import print_data
from controller.domain.errors import UsageError
from controller.domain.spec import WharfSpec
from controller.domain.texts import address_of
from controller.settings import files_or_default
from controller.wiring.setup import read

KINDS = ("range", "host", "node")
FORMS = ("text", "json", "yaml", "daemon.json", "hosts.toml")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    kind: str
    address: str | None
    tls: bool | None
    output: str


@dataclass(frozen=True, slots=True)
class File:
    """One file for whom it is for: where it belongs, and what has to be done for it to count."""

    name: str
    path: str
    says: str
    then: str


@click.command("range-config")
@click.argument("kind", type=click.Choice(list(KINDS)), default="range")
@click.option("--address", metavar="HOST:PORT", help="How the gateway or the registry is reached from there; default: as the files say.")
@click.option("--tls/--insecure", default=None, help="Whether it speaks TLS there; default: as the files say, with --address it does not.")
@click.option("-o", "--output", type=click.Choice(list(FORMS)), default="text", show_default=True, help="All files, or one of them alone.")
@FILES
def range_config(kind: str, address: str | None, output: str, *, tls: bool | None, files: tuple[Path, ...]) -> int:
    """Print what a range, a host or a node of a cluster is told, so that it pulls from here: daemon.json, hosts.toml, and where each belongs."""
    wanted = Wanted(kind, address, tls, output)
    if wanted.address is None:
        spec = read(files_or_default(files)).wharf
        address, tls = _address(spec)
    else:
        address, tls = address_of(wanted.address), False
    if _is_loopback(address):
        complaints().print(f"{address} is a loopback address, which nobody else reaches: --address says another one", style="yellow")
    config = files_for(wanted.kind, address, tls=tls if wanted.tls is None else wanted.tls)
    if wanted.output in {"json", "yaml"}:
        print_data([{"file": each.name, "path": each.path, "content": each.says, "then": each.then} for each in config], wanted.output)
    elif wanted.output == "text":
        sys.stdout.write("\n".join(f"# {each.path}\n# {each.then}\n{each.says}" for each in config))
    else:
        found = next((each for each in config if each.name == wanted.output), None)
        if found is None:
            raise UsageError(f"-o {wanted.output}: a {wanted.kind} has no such file, but {', '.join(each.name for each in config)}")
        sys.stdout.write(found.says)
    return Exit.OK


def files_for(kind: str, address: str, *, tls: bool) -> tuple[File, ...]:
    """The files of an engine, or of a node with containerd."""
    url = f"{'https' if tls else 'http'}://{address}"
    hosts = f'[host."{url}"]\ncapabilities = ["pull", "resolve"]\n'
    if kind == "node":
        then = 'containerd reads it at each pull, where its config.toml says so: config_path = "/etc/containerd/certs.d"'
        return (File("hosts.toml", "/etc/containerd/certs.d/_default/hosts.toml", hosts, then),)
    said: dict[str, list[str]] = {"registry-mirrors": [url]} | ({} if tls else {"insecure-registries": [address]})
    daemon = json.dumps(said, indent=2) + "\n"
    then = "the engine reads it when it starts (SIGHUP is enough for both); it asks a mirror for docker.io's names only"
    inside = " in the range's container" if kind == "range" else ""
    return (
        File("daemon.json", f"/etc/docker/daemon.json{inside}", daemon, then),
        File(
            "hosts.toml",
            f"/etc/docker/certs.d/_default/hosts.toml{inside}",
            hosts,
            "an engine with the containerd image store reads it at each pull, for names of every registry",
        ),
    )


def _address(spec: WharfSpec) -> tuple[str, bool]:
    """How the file says that others reach it: as its ranges do, else the gateway, else the registry; and whether by TLS."""
    tls = spec.registry.url.startswith("https://")
    named = next((host.registry_address for host in spec.hosts if (host.discover or host.range) and host.registry_address), None)
    if named is not None:
        own = named == spec.registry.url.partition("//")[2] or named in spec.registry.aliases
        return named, tls and own
    if spec.gateway is not None and not spec.gateway.listen.startswith(("0.0.0.0:", "[::]:")):
        return spec.gateway.listen, False
    return next((alias for alias in spec.registry.aliases), spec.registry.url.partition("//")[2]), tls


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0] or address
    return host in {"localhost", "[::1]"} or host.startswith("127.")
