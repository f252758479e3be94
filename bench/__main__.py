"""The one runner: `python -m bench [--write] [name ...]`; without names all of them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import nothing_to_do, planning

BENCHMARKS = {"planning": planning.measure, "nothing-to-do": nothing_to_do.measure}
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """\
# Results

Written by `make bench ARGS=--write`. Machines are noisy and differ: what counts is the ratio to the peer of the same run. Each contender runs once
unmeasured, then they take turns; "times ours" compares medians with the first row.
"""


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named; 1 for a name that is none."""
    names = [each for each in arguments if each != "--write"] or list(BENCHMARKS)
    unknown = sorted(set(names) - BENCHMARKS.keys())
    if unknown:
        sys.stderr.write(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}\n")
        return 1
    lines = [HEAD, _machine(), ""]
    for name in names:
        for result in BENCHMARKS[name]():
            lines += result.lines()
            print("\n".join(result.lines()), flush=True)
    if "--write" in arguments:
        RESULTS.write_text("\n".join(lines).rstrip() + "\n")
    return 0


def _machine() -> str:
    versions = [_version("docker-registry", "--version"), _version("skopeo", "--version")]
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {', '.join(versions)}."


def _version(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[:3])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
