"""What a registry tells of itself: the envelope of events that CNCF Distribution posts. Every word of it is a hint, none the truth (law 3)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

OURS = "wharfinger"
"""The user agent of our own requests to the registry."""


class MalformedError(ValueError):
    """A body that is no envelope of events."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A tag that was written or deleted; without a tag any of the repository, as the registry does not say which one lost its manifest."""

    repository: str
    tag: str = ""


def changes_in(body: bytes) -> tuple[Change, ...]:
    """What others changed, each once. Reading changes nothing, and neither do blobs, nor manifests without a tag. MalformedError for no envelope."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None
    events = said.get("events") if isinstance(said, dict) else None
    if not isinstance(events, list):
        raise MalformedError("an object with a list of `events` is expected, as registries post it")
    return tuple(sorted({change for event in events for change in _changes(event)}))


def _changes(event: object) -> Iterator[Change]:
    action, target, request = _field(event, "action", str), _field(event, "target", dict), _field(event, "request", dict, {})
    if action not in {"push", "delete"} or str(request.get("useragent", "")).startswith(OURS):
        return
    repository, tag = _field(target, "repository", str), _field(target, "tag", str, "")
    if tag or action == "delete":
        yield Change(repository, tag)


def _field(said: object, name: str, kind: type, default: Any = None) -> Any:  # noqa: ANN401 - JSON's
    value = said.get(name, default) if isinstance(said, Mapping) else None
    if not isinstance(value, kind):
        raise MalformedError(f"an event with `{name}` is expected, as registries post it")
    return value
