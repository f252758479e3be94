"""The images of a `docker save`: manifest.json with configs and layers by path; and which of them an OCI layout beside it holds already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controller.domain.archived import ArchivedBlob, ArchivedContent, ArchivedImage, diff_ids
from controller.domain.errors import InvalidReferenceError, WharfError
from controller.domain.oci import Descriptor, digest_of
from controller.domain.reference import Reference, parse
from controller.sources.documents import Documents, printable
from controller.sources.layout import INDEX, layout_contents
from controller.sources.members import digest_in

MANIFEST = "manifest.json"
_BEFORE_MANIFESTS = "repositories"
_CLAIMED = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_NONE = "<none>:<none>"


def contents(documents: Documents) -> tuple[ArchivedContent, ...]:
    """Every image of an archive. CorruptError when it is no image archive at all; what is wrong with one image is that image's error."""
    if INDEX not in documents and MANIFEST not in documents:
        if _BEFORE_MANIFESTS in documents:
            raise documents.corrupt("it was saved by an engine before 1.10, without a manifest.json: load it into an engine and save it again")
        raise documents.corrupt(f"it has neither {MANIFEST} nor {INDEX}, so it is no image archive, or not a whole one")
    found = list(layout_contents(documents)) if INDEX in documents else []
    for saved in _saved(documents) if MANIFEST in documents else ():
        place = next((i for i, each in enumerate(found) if each.error is None and saved.image.identity in each.configs), None)
        if place is None:
            found.append(saved)
        else:
            found[place] = _named(found[place], saved.image.names)
    covered = {name for each in found if each.error is None for name in each.image.names}
    return tuple(each for each in found if each.error is None or not each.image.names or not covered.issuperset(each.image.names))


def _named(content: ArchivedContent, names: tuple[Reference, ...]) -> ArchivedContent:
    return replace(content, image=replace(content.image, names=tuple(dict.fromkeys((*content.image.names, *names)))))


def _saved(documents: Documents) -> Iterator[ArchivedContent]:
    said = documents.json(MANIFEST, MANIFEST)
    if not isinstance(said, list):
        raise documents.corrupt(f"{MANIFEST} is no list")
    by_config: dict[str, ArchivedContent] = {}
    for number, each in enumerate(said):
        content = _content(documents, each if isinstance(each, dict) else {}, number)
        known = by_config.get(content.image.identity)
        if known is not None and known.error is None and content.error is None:
            content = _named(known, content.image.names)
        by_config[content.image.identity or f"entry {number}"] = content
    yield from by_config.values()


def _content(documents: Documents, entry: dict[str, Any], number: int) -> ArchivedContent:
    tags = entry.get("RepoTags") or []
    title = next((each for each in tags if isinstance(each, str)), "") if isinstance(tags, list) else ""
    title = printable(title) or f"entry {number} of {MANIFEST}"
    names: tuple[Reference, ...] = ()
    try:
        names = _names(documents, tags)
        config = _config(documents, entry)
        blobs = _layers(documents, entry, config)
    except WharfError as error:
        return ArchivedContent(ArchivedImage("", names, 0), title, error=error)
    image = ArchivedImage(digest_of(config), names, sum(blob.size for blob in {blob.member: blob for blob in blobs}.values()))
    return ArchivedContent(image, title, config=config, blobs=blobs)


def _names(documents: Documents, said: object) -> tuple[Reference, ...]:
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise documents.corrupt(f"{MANIFEST} has RepoTags that are no list of names")
    try:
        return tuple(dict.fromkeys(parse(each) for each in said if each != _NONE))
    except InvalidReferenceError as error:
        raise documents.corrupt(f"{MANIFEST} has a name that is none: {error}") from None


def _config(documents: Documents, entry: dict[str, Any]) -> bytes:
    path = entry.get("Config")
    if not isinstance(path, str):
        raise documents.corrupt(f"{MANIFEST} names no config")
    raw = documents.read(path, "the config")
    claimed = _CLAIMED.fullmatch(path)
    if claimed and digest_of(raw) != f"sha256:{claimed[1]}":
        raise documents.corrupt(f"the config {claimed[1][:12]} has other bytes than its name says")
    return raw


def _layers(documents: Documents, entry: dict[str, Any], config: bytes) -> tuple[ArchivedBlob, ...]:
    paths = entry.get("Layers") or []
    said = diff_ids(documents.parsed(config, "the config"))
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        raise documents.corrupt(f"{MANIFEST} has Layers that are no list of paths")
    if said is None or len(said) != len(paths):
        raise documents.corrupt(f"{MANIFEST} lists {len(paths)} layers, the config names {'none' if said is None else len(said)}")
    return tuple(_layer(documents, path, diff_id) for path, diff_id in zip(paths, said, strict=True))


def _layer(documents: Documents, path: str, diff_id: str) -> ArchivedBlob:
    entry = documents.members.file(path, "the layer")
    claimed = digest_in(entry.name)
    return ArchivedBlob(entry.name, entry.size, Descriptor("", claimed, entry.size) if claimed else None, diff_id)
