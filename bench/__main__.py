"""The one runner: `python -m bench [--write] [name ...]`; without names all of them."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import archives, copying, gateway, latency, nothing_to_do, planning, pushing, quiet

BENCHMARKS = {
    "planning": planning.measure,
    "nothing-to-do": nothing_to_do.measure,
    "copying": copying.measure,
    "archives": archives.measure,
    "pushing": pushing.measure,
    "latency": latency.measure,
    "gateway": gateway.measure,
    "quiet": quiet.measure,
}
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """\
# Results

Written by `make bench ARGS=--write`. Machines are noisy and differ: what counts is the ratio to the peer of the same run. Each contender runs once
unmeasured, then they take turns; "times ours" compares medians with the first row. An aim is what we want, and no test.
"""


def main() -> int:
    """Run the benchmarks that are named, print their tables, and with --write keep them."""
    said = _arguments()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Who installs wharf has its bytecode; the unmeasured turn writes ours.
    lines = [HEAD, _machine(), ""]
    for name in said.names or BENCHMARKS:
        for result in BENCHMARKS[name]():
            lines += result.lines()
            print("\n".join(result.lines()), flush=True)
    if said.write:
        RESULTS.write_text("\n".join(lines).rstrip() + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(prog="python -m bench", description="Measure Wharfinger beside its peers, on servers of its own.")
    ask.add_argument("names", nargs="*", metavar="name", help=f"which ones: {', '.join(BENCHMARKS)}; without any, all of them")
    ask.add_argument("--write", action="store_true", help="write the tables of all benchmarks to bench/RESULTS.md")
    said = ask.parse_args()
    unknown = sorted(set(said.names) - BENCHMARKS.keys())
    if unknown:
        ask.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if said.write and set(said.names) not in (set(), BENCHMARKS.keys()):
        ask.error("--write is for all of them together: leave the names out")
    return said


def _machine() -> str:
    versions = [_version("docker-registry", "--version"), _version("skopeo", "--version")]
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {', '.join(versions)}."


def _version(*command: str) -> str:
    """The last word but for what the line begins with: `skopeo version 1.9.3`, `docker-registry github.com/... 2.8.2`."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join([command[0], *done.stdout.split()[-1:]])


if __name__ == "__main__":
    sys.exit(main())
