"""Bad files and bad usage: a clear error at its place, exit code 1, and nothing is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.wharf import wharf

HEAD = """\
apiVersion: wharfinger.dev/v1alpha1
kind: Wharf
metadata: {name: default}
spec:
  registry: {url: "http://127.0.0.1:1"}
"""
SET = """\
---
apiVersion: wharfinger.dev/v1alpha1
kind: ImageSet
metadata: {name: ranges}
spec:
  images:
"""
LEVELS = [f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)]
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *LEVELS])
TWO_SOURCES = """\
    - {name: a:1, source: {registry: 'quay.io/a/b:1'}}
    - {name: a:1, source: {registry: 'quay.io/c/d:1'}}
"""

CASES = {
    "empty": ("", "found nothing"),
    "not YAML": ("a: [1, 2\n", "2:1"),
    "alias bomb": (BOMB, "alias"),
    "duplicate keys": (HEAD + "  mode: Full\n  mode: Push\n", "7:3"),
    "unknown field": (HEAD + "  modus: Full\n", "6:3"),
    "bad reference": (HEAD + SET + "    - name: cyroid/Kali:1\n", "12:13"),
    "bad tag": (HEAD + SET + "    - name: 'cyroid/kali:a b'\n", "12:13"),
    "two sources": (HEAD + SET + TWO_SOURCES, "13:"),
    "present and absent on a host": (HEAD + "  hosts: [{name: h, engine: env, present: ['a:1'], absent: ['a:*']}]\n", "6:"),
    "no Wharf": (SET.removeprefix("---\n") + "    - name: a:1\n", "kind Wharf"),
    "not text": ("\xff\xfe\x00", "1:1"),
    "another kind": ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "kind"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", ["validate", "plan", "apply", "status", "run"])
def test_a_bad_file(tmp_path: Path, case: str, command: str) -> None:
    """Every command says the file and the place, and ends with 1 before it contacts anything."""
    content, told = CASES[case]
    file = tmp_path / "bad.yaml"
    file.write_text(content, encoding="latin-1")
    done = wharf(command, file, state=tmp_path / "state")
    assert done.code == 1, done.err
    assert str(file) in done.err.replace("\n", "")
    assert told in done.err
    assert not (tmp_path / "state").exists()


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Not only the first one: each with its line."""
    file = tmp_path / "bad.yaml"
    file.write_text(HEAD + "  modus: Full\n  interval: soon\n" + SET + "    - name: UPPER/X:1\n    - nmae: a\n")
    done = wharf("validate", file, state=tmp_path / "state")
    assert [f"bad.yaml:{line}:" in done.err for line in (6, 7, 14, 15)] == [True] * 4, done.err


def test_present_and_absent_in_two_sets_block_both(tmp_path: Path) -> None:
    """Sets belong to different people, so their contradiction is a row of the plan, not an error of the file."""
    file = tmp_path / "both.yaml"
    other = SET.replace("ranges", "other")
    file.write_text(HEAD + SET + "    - name: a:1\n" + other + "    - {name: 'a:1', ensure: Absent}\n")
    assert wharf("validate", file, state=tmp_path / "state").code == 0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name, and what to do when none was given."""
    assert "none.yaml" in wharf("plan", tmp_path / "none.yaml", state=tmp_path / "state").err
    done = wharf("plan", state=tmp_path / "state", cwd=tmp_path)
    assert done.code == 1
    assert "wharf init" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="the paths below are refused for root, too, only where they are no files")
def test_what_is_no_file(tmp_path: Path) -> None:
    """A socket, a device: refused, not waited for."""
    assert wharf("validate", "/dev/null", state=tmp_path / "state").code == 1


@pytest.mark.parametrize("arguments", [["frobnicate"], ["plan", "--nope"], ["plan", "-o", "xml"], ["apply", "--allow-deletes", "-1"], ["init"]])
def test_usage(tmp_path: Path, arguments: list[str]) -> None:
    """A usage error is 1, as every error of what was typed."""
    done = wharf(*arguments, state=tmp_path / "state")
    assert done.code == 1
    assert done.err


def test_a_state_file_that_is_none(tmp_path: Path) -> None:
    """Another program's file is never thrown away."""
    file, state = tmp_path / "ok.yaml", tmp_path / "state.sqlite"
    file.write_text(HEAD)
    state.write_text("my diary")
    done = wharf("apply", file, state=state)
    assert done.code == 1
    assert str(state) in done.err.replace("\n", "")
    assert state.read_text() == "my diary"
