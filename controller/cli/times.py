"""Times as people and programs read them; the store and the engine have seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def local_time(at: float) -> str:
    """ISO 8601 in this machine's time zone, to the second."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def utc_time(at: float | None) -> str | None:
    """ISO 8601 in UTC, to the second, as Kubernetes writes it; None stays None."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
