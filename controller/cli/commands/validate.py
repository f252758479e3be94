"""`wharf validate`: reads and checks the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from controller.cli.errors import Exit
from controller.cli.options import OUTPUT, PATHS
from controller.cli.printing import print_data
from controller.settings import files_or_default
from controller.wiring.setup import read


@click.command()
@PATHS
@OUTPUT
def validate(files: tuple[Path, ...], output: str) -> int:
    """Check the files; say every problem with its file, line and column."""
    setup = read(files_or_default(files))
    desired = setup.desired
    row: dict[str, Any] = {
        "wharf": desired.wharf,
        "hosts": [host.name for host in desired.hosts],
        "imageSets": [{"name": name, "images": sum(image.image_set == name for image in desired.images)} for name in desired.sets],
        "files": [str(file) for file in setup.files],
    }
    if output != "table":
        print_data(row, output)
        return Exit.OK
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"{len(setup.files)} file{'s' * (len(setup.files) != 1)} valid: Wharf {desired.wharf}, {len(desired.hosts)} engine(s)")
    for each in row["imageSets"]:
        out.print(f"  ImageSet {each['name']}: {each['images']} image(s)")
    return Exit.OK
