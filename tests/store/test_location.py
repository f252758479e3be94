"""Where the state lies: --state, else WHARF_STATE, else the platform's state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.store.location import state_file


def test_the_option_is_first() -> None:
    """What the command line says beats the environment."""
    assert state_file("/a/x.sqlite", {"WHARF_STATE": "/b/y.sqlite"}, "default") == Path("/a/x.sqlite")
    assert state_file(Path("/a/x.sqlite"), {}, "default") == Path("/a/x.sqlite")


def test_the_environment_is_second() -> None:
    """WHARF_STATE names the file; empty is as good as not set."""
    assert state_file(None, {"WHARF_STATE": "/b/y.sqlite"}, "default") == Path("/b/y.sqlite")
    assert state_file(None, {"WHARF_STATE": ""}, "default").name == "default.sqlite"


def test_the_platforms_folder_is_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME on Linux (XDG Base Directory Specification); one file for each Wharf."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_file(None, {}, "lab.west") == Path("/state/wharfinger/lab.west.sqlite")


def test_a_folder_gets_one_file_for_each_wharf(tmp_path: Path) -> None:
    """An existing folder, or a text that ends with a slash."""
    assert state_file(str(tmp_path), {}, "default") == tmp_path / "default.sqlite"
    assert state_file(None, {"WHARF_STATE": str(tmp_path)}, "other") == tmp_path / "other.sqlite"
    assert state_file(f"{tmp_path}/missing/", {}, "default") == tmp_path / "missing" / "default.sqlite"
    assert state_file(f"{tmp_path}/missing", {}, "default") == tmp_path / "missing"
