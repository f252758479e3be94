"""Text files of people, read whole and bounded: what can't be read is a problem with its place."""

from __future__ import annotations

from pathlib import Path

from controller.domain.problems import Place, Problem

MAX_FILE = 16 << 20
"""Bytes. Ten thousand images take about one megabyte."""


def read_text(file: Path, what: str = "a desired-state file") -> str | Problem:
    """The file's text, or why there is none; `what` says what it should be."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            return Problem(Place(str(file)), f"more than {MAX_FILE >> 20} MiB", what)
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        place = Place(str(file), before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        return Problem(place, "bytes that are no UTF-8", "a text file")
    except OSError as error:
        return Problem(Place(str(file)), error.strerror or str(error), "a file that can be read")
