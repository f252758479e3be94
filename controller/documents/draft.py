"""A first desired-state file from what an engine holds: for people to read, change and keep. It evicts nothing by itself (mode: Push)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from controller.documents.dump import scalar
from controller.domain.observation import HostImage, HostState, StoreKind
from controller.domain.reference import DOCKER_IO, HELD_PREFIX, Reference
from controller.domain.spec import API_VERSION
from controller.domain.texts import size

_DEFAULT_UPSTREAMS = (DOCKER_IO, "ghcr.io", "quay.io")
_COLUMN = 58


def draft(state: HostState, frees: Mapping[str, int], engine: str, registry: str) -> str:
    """Both documents, as YAML with comments. `frees`, by Id, is what removing only that image would free, in bytes."""
    address = urlsplit(registry).netloc
    entries = list(_entries(state, frees, address))
    listed = sorted((entry for entry in entries if not entry.left_out), key=lambda entry: (-entry.frees, entry.name))
    return "\n".join([*_head(state, frees), *_wharf(listed, engine, registry), "---", *_image_set(listed), *_tail(state, entries), ""])


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tag: how a set names it, what its removal frees (0 for a further tag of an image), and words for people."""

    name: str
    tag: Reference
    image: HostImage
    frees: int
    words: str
    domain: str = ""
    left_out: str = ""


def _entries(state: HostState, frees: Mapping[str, int], address: str) -> Iterator[_Entry]:
    seen: set[str] = set()
    for image in state.images:
        first = ""
        for tag in image.tags:
            name, domain, left_out = _name(tag, image, state.store, address)
            if name in seen or tag.tag.startswith(HELD_PREFIX):
                continue
            seen.add(name)
            freed = 0 if first else frees.get(image.id, image.size)
            words = f"the same image as {first}" if first else f"frees {size(freed) or '0 B'}"
            used = f", in use by {', '.join(image.used_by)}" if image.used_by else ""
            yield _Entry(name, tag, image, freed, words + used, domain, left_out)
            first = first or name


def _name(tag: Reference, image: HostImage, store: StoreKind, address: str) -> tuple[str, str, str]:
    """How a set names it: with its domain when it came from there, else as a local one; then that domain, and why it is left out."""
    if tag.domain == address:
        return f"{tag.repository}:{tag.tag}", "", ""
    if tag.domain != DOCKER_IO:
        pulled = any(digest.domain == tag.domain and digest.repository == tag.repository for digest in image.repo_digests)
        why = "" if pulled else f"{tag.domain} never had it, as far as this host knows: give it a name without a domain"
        return str(tag), tag.domain, why
    if _from_docker_io(tag, image, store):
        return str(tag), DOCKER_IO, ""
    return tag.familiar, "", ""


def _from_docker_io(tag: Reference, image: HostImage, store: StoreKind) -> bool:
    """A classic store knows the digest of what was pulled; a containerd store makes one up for every tag, so there the official images count."""
    if store is StoreKind.CLASSIC:
        return any((digest.domain, digest.repository) == (tag.domain, tag.repository) for digest in image.repo_digests)
    return tag.repository.startswith("library/")


def _head(state: HostState, frees: Mapping[str, int]) -> Iterator[str]:
    total = sum(frees.get(image.id, image.size) for image in state.images)
    used = sum(bool(image.used_by) for image in state.images)
    yield f"# Drafted by `wharf init`: {len(state.images)} images, {used} in use by containers, {size(total) or '0 B'} without what they share."
    yield "# Look at it, change it, then: wharf plan FILE; wharf apply FILE."


def _wharf(entries: Sequence[_Entry], engine: str, registry: str) -> Iterator[str]:
    domains = sorted({entry.domain for entry in entries if entry.domain} - set(_DEFAULT_UPSTREAMS))
    keep = sorted({entry.tag.familiar for entry in entries if entry.image.used_by})
    yield f"apiVersion: {API_VERSION}"
    yield "kind: Wharf"
    yield "metadata: {name: default}"
    yield "spec:"
    yield f"  registry: {{url: {scalar(registry)}}}"
    if domains:
        yield "  upstreams:"
        yield from (f"    - {{domain: {scalar(domain)}}}" for domain in (*_DEFAULT_UPSTREAMS, *domains))
    yield _beside("  mode: Push", "brings images to the registry and evicts nothing; Full, once the plan looks right")
    yield "  hosts:"
    yield "    - name: local"
    yield f"      engine: {scalar(engine)}"
    yield _beside("      adopt: []", 'what appears here later and goes to the registry unlisted, such as ["cyroid/**"]')
    yield _beside("      keep:" if keep else "      keep: []", "in use when this was drafted: never touched")
    yield from (f"        - {scalar(name)}" for name in keep)


def _image_set(entries: Sequence[_Entry]) -> Iterator[str]:
    yield f"apiVersion: {API_VERSION}"
    yield "kind: ImageSet"
    yield "metadata: {name: images}"
    yield "spec:"
    yield _beside("  images:" if entries else "  images: []", "with a domain: copied from there; without: pushed from the host")
    yield from (_beside(f"    - name: {scalar(entry.name)}", entry.words) for entry in entries)


def _tail(state: HostState, entries: Sequence[_Entry]) -> Iterator[str]:
    yield from (f"  # Not listed: {entry.name} ({entry.words}): {entry.left_out}" for entry in entries if entry.left_out)
    nameless = sum(not image.tags for image in state.images)
    if nameless:
        yield f"  # Not listed: {nameless} image{'s' * (nameless != 1)} without a tag. They are never touched."


def _beside(text: str, comment: str) -> str:
    return f"{text.ljust(_COLUMN)} # {comment}"
