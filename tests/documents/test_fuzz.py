"""Arbitrary input: the loader answers with documents or with DocumentsError, and every problem has a place inside the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.documents.loader import load
from controller.domain.problems import DocumentsError, Problem
from tests.documents.texts import SAMPLE

YAML = [
    "",
    " ",
    "\n",
    "\t",
    "-",
    "- ",
    ":",
    ": ",
    "?",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a ",
    "*a",
    "!t ",
    "|",
    ">",
    "'",
    '"',
    "%",
    "@",
    "---\n",
    "...\n",
    "<<: ",
]
VALUES = ["null", "true", "12", "1.5", "x" * 300, "\x00", "\x85", "\u2028", "é", "\U0001f40b", "name: x\n", "kind: Wharf\n", "://", "sha256:"]
SCRAPS = st.sampled_from(YAML + VALUES)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The sample with some pieces replaced by scraps."""
    text = SAMPLE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(SCRAPS) + text[start + draw(st.integers(0, 12)) :]
    return text.encode()


def check(raw: bytes) -> None:
    """Load a file with these bytes."""
    lines = sum(raw.count(end.encode()) for end in ("\n", "\r", "\x85", "\u2028", "\u2029"))
    for problem in _problems(raw):
        assert 1 <= problem.place.line <= lines + 1
        assert problem.place.column >= 1
        assert problem.found
        assert problem.expected
        assert "\n" not in str(problem)


def _problems(raw: bytes) -> tuple[Problem, ...]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "d.yaml")
        file.write_bytes(raw)
        try:
            load([file])
        except DocumentsError as error:
            return error.problems
    return ()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    """Bytes of any kind."""
    check(raw)


@settings(deadline=None)
@given(st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_text(raw: bytes) -> None:
    """Text of any kind, lone surrogates too."""
    check(raw)


@settings(deadline=None, max_examples=300)
@given(mutated())
def test_any_slip_in_a_valid_file(raw: bytes) -> None:
    """What people mistype."""
    check(raw)
