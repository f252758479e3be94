"""Logs on standard error: one line a record, for people or as JSON; no secret in either."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

FIELDS = ("image", "host", "action", "reason", "error", "seconds", "bytes")
"""What a record may say of itself by `extra`, and JSON shows as a field of its own."""

_NOISY = ("aiohttp", "apprise", "asyncio", "docker", "httpcore", "httpx", "requests", "urllib3", "watchfiles")
_USER_INFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE)
_CREDENTIALS = re.compile(r"\b(basic|bearer)(\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
_NAMED = re.compile(r"\b([a-z_]*(?:password|passwd|secret|token|api_?key))(=|\"\s*:\s*\")[^\s\"&,;]+", re.IGNORECASE)


class Form(StrEnum):
    """How a record is written."""

    HUMAN = "human"
    JSON = "json"


def set_up(form: Form, *, verbose: bool) -> None:
    """Write to standard error, in this form, from now on; libraries are heard from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if form is Form.JSON else HumanLine())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def is_json() -> bool:
    """Whether standard error is for a machine: then nothing else may be written there."""
    return any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)


def redacted(words: str) -> str:
    """Without what looks like a secret: the last net, as no message should carry one (law 7)."""
    words = _USER_INFO.sub(r"\1", words)
    words = _CREDENTIALS.sub(r"\1\2***", words)
    return _NAMED.sub(r"\1\2***", words)


class HumanLine(logging.Formatter):
    """When, how grave, what. Lines of a message become one; only a traceback, which is asked for by -v, has lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line, with nothing in it that steers a terminal."""
        record.message = " | ".join(_printable(line) for line in record.message.splitlines())
        return redacted(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's name and type
        """The traceback."""
        return redacted(super().formatException(ei))


class JsonLine(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what the record says of itself."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None and value != "":
                row[field] = value if isinstance(value, int | float) else redacted(str(value))
        if record.exc_info:
            row["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(row, ensure_ascii=False)


def _printable(words: str) -> str:
    return "".join(each if each.isprintable() else " " for each in words)
