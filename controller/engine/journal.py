"""Our own tags on hosts: journalled before they are made, taken off afterwards, and never an image's last name without the proof (law 1)."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError, UnprovenError
from controller.domain.labels import CONTEXT_HASH
from controller.domain.observation import Held, HostImage, StoreKind
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance, Registry
from controller.domain.ports.stores import JournalEntry, Store
from controller.domain.reference import Target, parse
from controller.engine.manifests import Manifests, identities
from controller.engine.prove import Prover
from controller.engine.remove import remove

log = logging.getLogger(__name__)


def open_entry(store: Store, host: Host, engine_id: str, reference: str, *, there: str, tried: str) -> JournalEntry:
    """Journal a name that is about to be made for an image whose Id is not known yet; `there` is what it means now, "" for nothing.

    Raises RefusedError when it means something that is not ours: the name would be taken away from it.
    """
    ours = {entry.image_id for entry in store.open_pushes(engine_id) if entry.reference == reference and not entry.existed}
    if there and not ours & {there, ""}:
        raise RefusedError(tried, f"{reference} means another image there, {there[:19]}", hint="remove or rename that tag: it would be taken away")
    entry = JournalEntry(host.name, engine_id, "", reference, existed=False)
    store.open_push(entry)
    return entry


def target_of(entry: JournalEntry) -> Target:
    """The place in the registry that an entry's name stands for."""
    name = parse(entry.reference)
    return Target(name.repository, name.tag)


def know_entry(store: Store, entry: JournalEntry, image_id: str) -> JournalEntry:
    """The Id is known now. What else was journalled for this name is done with: the name means this image."""
    known = replace(entry, image_id=image_id)
    store.open_push(known)
    for other in store.open_pushes(entry.engine_id):
        if other.reference == entry.reference and other.image_id != image_id:
            store.close_push(other)
    return known


async def meaning_of(host: Host, reference: str) -> str:
    """The Id of what a name means; "" for nothing."""
    try:
        return (await host.inspect(reference)).id
    except NotFoundError:
        return ""


async def meant(registry: Registry, manifests: Manifests, target: Target, image_id: str, kind: StoreKind) -> str:
    """The digest that the registry's tag means, if that is this image; "" if it is another one. Success is what was read back (law 5)."""
    found = await registry.manifest(target.repository, target.tag)
    whole = await manifests.whole(registry, target.repository, found.digest)
    return found.digest if Held(found.digest, identities=identities(whole)).means(HostImage(image_id, ()), kind) else ""


async def named(store: Store, host: Host, entry: JournalEntry) -> JournalEntry | None:
    """An entry from before its Id was known, with the Id of what was built or pulled under its name; None, and closed, when that is nothing.

    Ours is what has our label, or what the engine knows to be from that repository: a name that somebody else gave in the meantime is his.
    """
    image = await _image_of(host, entry)
    name = parse(entry.reference)
    if image is not None and not any((known.domain, known.repository) == (name.domain, name.repository) for known in image.repo_digests):
        image = image if CONTEXT_HASH in dict((await host.inspect(image.id)).labels) else None
    if image is None:
        store.close_push(entry)
        return None
    return know_entry(store, entry, image.id)


async def untag(store: Store, host: Host, entry: JournalEntry) -> None:
    """Take a tag of ours off again if it still means that image, and close its journal entry.

    Never the image's last name: the engine would delete what was not proven to be elsewhere. Then, and when the engine can't be asked, the entry
    stays open: the tag stays ours, the next pass tries again, and the next push under this name takes it over.
    """
    try:
        gone = entry.existed or await _remove_tag(host, entry)
    except NotFoundError:
        gone = True
    except RemoteError as error:
        tell_stays(entry, host, error)
        return
    if gone:
        store.close_push(entry)


def tell_stays(entry: JournalEntry, host: Host, error: Exception) -> None:
    """That a tag of ours could not be taken off, and why."""
    fields = {"image": entry.reference, "host": host.name, "error": str(error)}
    log.warning("the tag %s stays on %s for now: %s", entry.reference, host.name, error, extra=fields)


async def _remove_tag(host: Host, entry: JournalEntry) -> bool:
    """Whether the tag is ours no more: taken off, or moved on by somebody."""
    there = await host.inspect(entry.reference)
    if there.id != entry.image_id:
        return bool(entry.image_id)
    if len(there.tags) < 2:  # noqa: PLR2004 - ours and at least one of the operator's
        log.info("%s is the last name of %s on %s: it stays", entry.reference, entry.image_id[:19], host.name)
        return False
    with suppress(MovedError):  # Somebody's by now.
        await host.untag(entry.reference, entry.image_id)
    return True


async def settle(store: Store, host: Host, entry: JournalEntry, kind: StoreKind, prover: Prover, advance: Advance, *, insist: bool = False) -> None:
    """As `untag`, but an image's last name goes too, by Id, once the registry was shown to hold its content; with `insist` no name goes before that.

    Raises UnprovenError when it does not, RemoteError when the engine refuses or does not answer; then all stays, with its entry open.
    """
    image = None if entry.existed else await _image_of(host, entry)
    if image is not None and image.id == entry.image_id:
        tried, last = f"removing {entry.reference} from {host.name}", len(image.tags) == 1
        if last and image.used_by and not insist:
            raise RefusedError(tried, f"{', '.join(image.used_by)} uses it", hint="it goes when the container is gone")
        if last or insist:
            await _prove(host, entry, image, kind, prover, advance, tried)
        await _remove_same(host, entry, tried, proven=last or insist)
    store.close_push(entry)


async def _prove(host: Host, entry: JournalEntry, image: HostImage, kind: StoreKind, prover: Prover, advance: Advance, tried: str) -> None:
    detail = await host.inspect(image.id)
    try:
        await prover.prove(target_of(entry), image, detail, kind, advance)
    except RemoteError as error:
        raise UnprovenError(f"{tried}: it stays, as its content could not be read back: {error}") from None


async def _remove_same(host: Host, entry: JournalEntry, tried: str, *, proven: bool) -> None:
    """Remove the name, if a fresh look shows that it still means that image; the last one only when the content was proven."""
    image = await _image_of(host, entry)
    if image is None or image.id != entry.image_id:
        return
    if len(image.tags) == 1 and not proven:
        raise UnprovenError(f"{tried}: it is the image's last name now, so it stays until its content was proven")
    await remove(host, image, parse(entry.reference), await host.inspect(image.id), tried)


async def _image_of(host: Host, entry: JournalEntry) -> HostImage | None:
    """The image that has the entry's name, on the engine that it was journalled for."""
    state = await host.look()
    if state.engine_id != entry.engine_id:
        raise RefusedError(f"looking for {entry.reference} on {host.name}", f"it is another engine now, {state.engine_id}")
    name = parse(entry.reference)
    return next((image for image in state.images if name in image.tags), None)
