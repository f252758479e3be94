"""`wharf version`."""

from __future__ import annotations

import sys

import click

from controller import __version__
from controller.cli.errors import Exit
from controller.cli.options import OUTPUT
from controller.cli.printing import print_data


@click.command()
@OUTPUT
def version(output: str) -> int:
    """Print the version."""
    if output == "table":
        sys.stdout.write(f"wharf {__version__}\n")
    else:
        print_data({"version": __version__}, output)
    return Exit.OK
