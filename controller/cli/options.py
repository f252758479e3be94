"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

PATHS = click.argument("files", nargs=-1, type=click.Path(path_type=Path))
FILES = click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="A desired-state file or folder; may be given several times."
)
STATE = click.option(
    "--state", type=click.Path(), envvar="WHARF_STATE", help="The state file, or a folder for it. Default: the platform's state folder."
)
OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="The form of the output."
)
ALLOW = click.option(
    "--allow-deletes", type=click.IntRange(min=0), default=0, metavar="N", help="Let one plan evict and delete N images, beyond limits.deletes."
)
CONFIRM = click.option("--confirm-engine", multiple=True, metavar="HOST", help="The engine of this host was replaced, and that is meant.")
REFRESH = click.option("--refresh", is_flag=True, help="Ask upstreams for every tag now, also for what they were asked within `refresh`.")
REGISTRY = click.option("--registry", metavar="URL", help="The registry, with docker's credentials for it; default: the one that the files name.")
CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="REGISTRY.yml",
    help="The configuration that the registry runs with.",
)
