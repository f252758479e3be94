"""How the wanted content of one place gets into the registry: copied, imported, built, or pushed from a host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from controller.domain.actions import Action, Build, Copy, HeldBack, Import, Kind, Push, Reason
from controller.domain.case import Case, short
from controller.domain.desired import ArchiveSource, BuildSource, DesiredImage, HostCopy, Source
from controller.domain.observation import Absent, Held, Present, Unknown
from controller.domain.reference import Reference
from controller.domain.spec import OnConflict

Found = Iterator[Action | HeldBack]


def transfers(case: Case) -> Found:
    """What brings it there, or why nothing does; no row where it is there already."""
    entry = case.entries[0] if case.entries else None
    if entry is None and not any(copy.adopted and not copy.kept for copy in case.copies):
        return
    if isinstance(case.registry, Unknown):
        yield case.held(_kind(entry.source if entry else None), Reason.UNKNOWN, case.registry.why)
    elif entry is not None and entry.source is not None:
        yield from _from_source(case, entry, entry.source)
    else:
        trusted = (copy for copy in case.copies if not copy.host.range)  # What a range has under a shared name is its own word for it (law 10).
        yield from _push(case, [copy for copy in trusted if entry is not None or (copy.adopted and not copy.kept)])


def _kind(source: Source | None) -> Kind:
    match source:
        case None:
            return Kind.PUSH
        case Reference():
            return Kind.COPY
        case ArchiveSource():
            return Kind.IMPORT
        case BuildSource():
            return Kind.BUILD
        case _:
            assert_never(source)


def _from_source(case: Case, entry: DesiredImage, source: Source) -> Found:
    held = case.registry.value if isinstance(case.registry, Present) else None
    match case.seen.offered.get(case.target):
        case Present(offered):
            if isinstance(source, BuildSource) and source.on in case.unknown_hosts and not (held and _same(source, held, offered)):
                yield case.held(Kind.BUILD, Reason.UNKNOWN, f"{source.on}, which builds it, could not be asked")
            elif held is None or not _same(source, held, offered):
                yield _unless_rivalled(case, _bring(case, entry, source, offered, held))
        case Unknown(why):
            yield case.held(_kind(source), Reason.UNKNOWN, why)
        case Absent() if held is None:
            yield from _push_adopted(case, case.held(_kind(source), Reason.NOT_FOUND, _not_there(source)))
        case None if held is None:
            yield from _push_adopted(case, _not_asked(case, source))
        case _:
            pass


def _same(source: Source, held: Held, offered: Held) -> bool:
    """Whether the registry has what the source offers."""
    match source:
        case Reference():
            return held.digest == offered.digest
        case ArchiveSource():
            return offered.digest in held.identities | {held.digest}
        case BuildSource():
            return held.context_hash == offered.digest
        case _:
            assert_never(source)


def _bring(case: Case, entry: DesiredImage, source: Source, offered: Held, held: Held | None) -> Action:
    replaces, reason = (held.digest, Reason.OUTDATED) if held else ("", Reason.MISSING)
    match source:
        case Reference():
            message = (
                f"{source} is {short(offered.digest)} now, the registry has {short(held.digest)}"
                if held
                else f"not in the registry; {source} is {short(offered.published or offered.digest)}"
            )
            return Copy(
                target=case.target, sets=case.sets, reason=reason, message=message, bytes=offered.size, source=source,
                digest=offered.published or offered.digest, wanted=offered.digest, replaces=replaces,
                platforms=entry.platforms, referrers=entry.referrers,
            )  # fmt: skip
        case ArchiveSource():
            message = f"{source.path} has {short(offered.digest)}, the registry something else" if held else f"not in the registry; in {source.path}"
            return Import(
                target=case.target, sets=case.sets, reason=reason, message=message, bytes=offered.size,
                source=source, identity=offered.digest, replaces=replaces,
            )  # fmt: skip
        case BuildSource():
            message = f"{source.context} has changed since it was built" if held else f"not in the registry; built of {source.context}"
            return Build(
                target=case.target, sets=case.sets, reason=reason, message=message, bytes=offered.size,
                host=source.on, source=source, context_hash=offered.digest, replaces=replaces,
            )  # fmt: skip
        case _:
            assert_never(source)


def _not_there(source: Source) -> str:
    match source:
        case Reference():
            return f"{source} does not exist upstream: mend the name in the file"
        case ArchiveSource():
            return f"{source.path} does not exist" + (f", or has no {source.name.familiar}" if source.name else "") + ": mend the file"
        case BuildSource():
            return f"{source.context} has no {source.dockerfile}: mend the file"
        case _:
            assert_never(source)


def _not_asked(case: Case, source: Source) -> HeldBack:
    if not isinstance(source, Reference) or case.desired.may_ask(source.domain):
        return case.held(_kind(source), Reason.UNKNOWN, "its source was not looked at")
    return case.held(Kind.COPY, Reason.DENIED, f"{case.desired.refusal(source.domain)}, so {source} is not asked for")


def _push_adopted(case: Case, otherwise: HeldBack) -> Found:
    """What has another source enters its name from a host only where the file trusts that host by `adopt` (law 10)."""
    trusted = [copy for copy in case.copies if copy.adopted and not copy.kept]
    if trusted:
        yield from _push(case, trusted)
    else:
        yield otherwise


def _push(case: Case, copies: list[HostCopy]) -> Found:
    """What goes from a host to the registry; nothing whose way there is blocked by another image under the registry's own name."""
    for row in _pushes(case, copies):
        yield _unless_rivalled(case, _from_origin(case, row))


def _unless_rivalled(case: Case, row: Action | HeldBack) -> Action | HeldBack:
    """Held back where its way to the registry is blocked: the host has another image under the registry's own name, which would be taken away."""
    if not isinstance(row, Push | Build):
        return row
    rival = next((copy for copy in case.copies if _is_rival(case, row, copy)), None)
    if rival is None:
        return row
    message = f"{rival.tag.familiar} on {rival.host.name} is another image, {short(rival.image.id)}; remove or rename that tag"
    return case.held(row.kind, Reason.CONFLICT, message, rival)


def _from_origin(case: Case, row: Action | HeldBack) -> Action | HeldBack:
    """What a host pulled is copied from where it came from, while that still has it: so it keeps its digest (law 4)."""
    origin = case.seen.origins.get(row.image_id) if isinstance(row, Push) else None
    if not isinstance(row, Push) or origin is None:
        return row
    return Copy(
        target=row.target, sets=row.sets, reason=row.reason, message=f"{row.message}; {origin.source} still has it", bytes=origin.size,
        source=origin.source, digest=origin.source.digest, wanted=origin.source.digest, replaces=row.replaces,
    )  # fmt: skip


def _is_rival(case: Case, row: Push | Build, copy: HostCopy) -> bool:
    other = isinstance(row, Build) or copy.image.id != row.image_id
    return copy.host.name == row.host and copy.tag.domain in case.desired.addresses and other


def _pushes(case: Case, copies: list[HostCopy]) -> Found:
    if isinstance(case.registry, Present):
        yield from _push_over(case, copies, case.registry.value)
    elif len({copy.image.id for copy in copies}) > 1:
        yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(copies)}; remove or rename all but one")
    elif copies:
        yield _push_of(case, copies[0], Reason.ON_HOST_ONLY, f"on {copies[0].host.name} and not in the registry")
    elif case.unknown_hosts:
        yield case.held(Kind.PUSH, Reason.UNKNOWN, f"not in the registry, and {', '.join(case.unknown_hosts)} could not be asked")
    else:
        yield case.held(Kind.PUSH, Reason.NOT_FOUND, "not in the registry, and no host has it: push it, or give it a source")


def _push_over(case: Case, copies: Iterable[HostCopy], held: Held) -> Found:
    """The registry has the tag already: the rules for a conflict."""
    pushes: dict[str, Push] = {}
    copies = list(copies)
    others = [copy for copy in copies if not held.means(copy.image, copy.store)]
    for copy in others:
        words = f"the registry has {short(held.digest)}, {copy.host.name} has {short(copy.image.id)}"
        if case.seen.last_pushed.get((copy.host.name, case.target)) == held.digest:
            pushes.setdefault(copy.image.id, _push_of(case, copy, Reason.RETAGGED, f"changed on {copy.host.name} since its last push", held.digest))
        elif copy.host.on_conflict is OnConflict.PUSH and len(others) == len(copies):
            pushes.setdefault(copy.image.id, _push_of(case, copy, Reason.CONFLICT, f"{words}; onConflict is Push", held.digest))
        elif copy.host.on_conflict is OnConflict.PUSH:
            # Both would push over each other for ever.
            yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(copies)}; remove or rename all but one", copy)
        elif copy.host.on_conflict is OnConflict.KEEP:
            yield case.held(Kind.PUSH, Reason.KEPT, f"{words}; onConflict is Keep", copy)
        else:
            yield case.held(Kind.PUSH, Reason.CONFLICT, f"{words}; rename one, or set onConflict", copy)
    if len(pushes) == 1:
        yield from pushes.values()
    elif pushes:
        yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(others)}; remove or rename all but one")


def _push_of(case: Case, copy: HostCopy, reason: Reason, message: str, replaces: str = "") -> Push:
    return Push(
        target=case.target, sets=case.sets, reason=reason, message=message, bytes=copy.image.size,
        host=copy.host.name, image_id=copy.image.id, tag=copy.tag, replaces=replaces,
    )  # fmt: skip


def _several(copies: Iterable[HostCopy]) -> str:
    return ", ".join(sorted({f"{copy.tag.familiar} on {copy.host.name} is {short(copy.image.id)}" for copy in copies}))
