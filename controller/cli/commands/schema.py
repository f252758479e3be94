"""`wharf schema`: the JSON Schema of the files."""

from __future__ import annotations

import click

from controller.cli.errors import Exit
from controller.cli.printing import print_data
from controller.documents.schema import json_schema


@click.command()
def schema() -> int:
    """Print the JSON Schema of the files, for editors."""
    print_data(json_schema(), "json")
    return Exit.OK
