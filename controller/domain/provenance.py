"""Where what the registry has came from: by what the audit trail recorded and what the files say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from controller.domain.actions import Kind
from controller.domain.desired import ArchiveSource, BuildSource, DesiredImage, Source
from controller.domain.ports.stores import PAST_GATEWAY, PULL_THROUGH, AuditEntry
from controller.domain.ranges import is_own
from controller.domain.reference import Reference

RESTORE = "Restore"
"""The audit trail's word for a tag that a person gave back what it meant before."""

RESTORED_BY = "restore"
"""The actor of `wharf restore`."""

_BROUGHT = frozenset({Kind.COPY, Kind.PUSH, Kind.IMPORT, Kind.BUILD, RESTORE, PULL_THROUGH})


class Provenance(StrEnum):
    """The ways into the registry."""

    UPSTREAM = "Upstream"
    ARCHIVE = "Archive"
    BUILD = "Build"
    LISTED = "Listed"
    """A set lists it without a source, and a host had it."""
    ADOPTED = "Adopted"
    """No set lists it; `adopt` of a host named it."""
    COMMAND = "Command"
    """A person asked for this one image: `wharf push`, `wharf pull`, `wharf build`."""
    PULLED_THROUGH = "PulledThrough"
    """A client pulled it through the gateway, or a range past it."""
    RESTORED = "Restored"
    UNRECORDED = "Unrecorded"
    """The trail does not say: it was there before, or came by `wharf import --registry`, which keeps no state, or by another tool."""


@dataclass(frozen=True, slots=True)
class Came:
    """How the registry's content came there; `at`, in seconds since the epoch, and `host` where the trail says so. `words` are for people."""

    by: Provenance
    words: str
    host: str = ""
    at: float | None = None


def provenance(digest: str, entry: DesiredImage | None, trail: Sequence[AuditEntry]) -> Came:
    """How the manifest `digest`, which the tag means now, came to be there. `entry` is what a set says of it; the trail has the newest first."""
    brought = next((each for each in trail if not each.error and each.action in _BROUGHT and each.after == digest), None)
    if brought is None:
        return Came(Provenance.UNRECORDED, "not recorded: it was there before, or came by another tool or by `wharf import --registry`")
    by, words = _how(brought, entry)
    return Came(by, words, brought.host, brought.at)


def _how(brought: AuditEntry, entry: DesiredImage | None) -> tuple[Provenance, str]:
    source = entry.source if entry else None
    match brought.action:
        case "Copy":
            upstream = f"copied from {source}" if isinstance(source, Reference) else "copied from where its host had pulled it"
            return (Provenance.COMMAND, f"{_copied(source)} by `wharf pull`") if brought.actor == "pull" else (Provenance.UPSTREAM, upstream)
        case "Import" if brought.actor == "import":
            return Provenance.ARCHIVE, "imported from an archive by `wharf import`"
        case "Import":
            archive = f"imported from {source_words(source) if isinstance(source, ArchiveSource) else 'an archive'}"
            return (Provenance.ADOPTED, f"saved out of {brought.host}") if is_own(brought.image) else (Provenance.ARCHIVE, archive)
        case "Build":
            built = f"built on {brought.host} of {source.context if isinstance(source, BuildSource) else 'a Dockerfile folder'}"
            return (Provenance.COMMAND, f"{built} by `wharf build`") if brought.actor == "build" else (Provenance.BUILD, built)
        case "PullThrough":
            way = "fetched from the internet past the registry" if brought.reason == PAST_GATEWAY else "pulled from the internet through the gateway"
            return Provenance.PULLED_THROUGH, f"{way}, by {brought.host}"
        case "Push" if brought.actor == "push":
            return Provenance.COMMAND, f"pushed from {brought.host} by `wharf push`"
        case "Push":
            listed = f"pushed from {brought.host}, as the set {entry.image_set} lists it" if entry else ""
            return (Provenance.LISTED, listed) if listed else (Provenance.ADOPTED, f"adopted from {brought.host}")
        case _:
            return Provenance.RESTORED, "given back by `wharf restore`" if brought.actor == RESTORED_BY else "listed again in its restore window"


def _copied(source: Source | None) -> str:
    return f"copied from {source}" if isinstance(source, Reference) else "copied from upstream"


def source_words(source: Source | None) -> str:
    """Where an image comes from, as people say it."""
    match source:
        case None:
            return "whatever host has it"
        case Reference():
            return str(source)
        case ArchiveSource():
            return source.path + (f" ({source.name.familiar})" if source.name else "")
        case BuildSource():
            return f"{source.context}, built on {source.on}"
        case _:
            assert_never(source)
