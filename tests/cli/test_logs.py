"""Logs: one line a record, fields that a machine can read, and never a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.cli.logs import HumanLine, JsonLine, redacted


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    """A record as a logger makes it."""
    return logging.getLogger("controller.test").makeRecord("controller.test", logging.INFO, "f.py", 1, message, args, None, extra=extra)


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    """The record's JSON line, read again."""
    line = JsonLine().format(made)
    assert "\n" not in line
    row = json.loads(line)
    assert isinstance(row, dict)
    return row


def test_json_has_what_is_known_and_nothing_else() -> None:
    """Time in UTC, level, logger and message are always there; of the fields those that were said."""
    made = record("✓ %s", "cyroid/kali:1", image="cyroid/kali:1", host="", seconds=0.25, bytes=0, secret="s", reason=None)
    row = as_json(made)
    assert datetime.fromisoformat(row.pop("time")) == datetime.fromtimestamp(int(made.created * 1000) / 1000, UTC)
    assert row == {
        "level": "info",
        "logger": "controller.test",
        "message": "✓ cyroid/kali:1",
        "image": "cyroid/kali:1",
        "seconds": 0.25,
        "bytes": 0,
    }


def test_a_record_is_one_line() -> None:
    """Whatever another side's words hold: no second line is made up, and no terminal is steered."""
    made = record("refused:\n%s", "a.yaml:1: wrong\r\n2026-01-01 INFO all is well \x1b[2J")
    assert len(HumanLine().format(made).splitlines()) == 1
    assert "\x1b" not in HumanLine().format(made)
    assert as_json(made)["message"].startswith("refused:\na.yaml")


def test_a_traceback_is_part_of_its_json_record() -> None:
    """With -v a defect shows where it is; in JSON that is a field."""
    made = record("a defect")
    try:
        int("Bearer aaaaaaaaaaaaaaaaaaaaaaaa")
    except ValueError:
        made.exc_info = sys.exc_info()
    row = as_json(made)
    assert "test_logs.py" in row["traceback"]
    assert "aaaa" not in row["traceback"]


@pytest.mark.parametrize(
    "words",
    [
        "GET https://wharf:hunter2-hunter2@registry.example/v2/",
        "Authorization: Bearer hunter2-hunter2-hunter2",
        "Authorization: Basic hunter2hunter2hunter2==",
        "https://r.example/blob?x=1&token=hunter2-hunter2&y=2",
        'the answer was {"access_token": "hunter2-hunter2"}',
    ],
)
def test_what_looks_like_a_secret_is_taken_out(words: str) -> None:
    """The last net: also of a field, in both forms."""
    made = record("%s", words, error=words)
    assert "hunter2" not in JsonLine().format(made) + HumanLine().format(made)


@pytest.mark.parametrize(
    "words",
    [
        "GET http://127.0.0.1:5000/token: 401 Unauthorized (basic authentication is asked for)",
        "docker.io/library/nginx@sha256:0123456789abcdef",
        "the token: it has expired",
    ],
)
def test_other_words_stay(words: str) -> None:
    """Errors keep what they say."""
    assert redacted(words) == words
