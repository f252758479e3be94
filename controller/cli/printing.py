"""What a command gives: tables for people, plain data for programs."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console

from controller.documents.dump import to_yaml


def table_console() -> Console:
    """As wide as the terminal; where there is none, wide enough that a pipe sees one line a row."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=int(os.environ.get("COLUMNS", "200")))


def print_data(data: object, output: str) -> None:
    """Plain data on standard output, as JSON or YAML."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n" if output == "json" else to_yaml(data))
