"""The images of an OCI layout: index.json and what it leads to, manifest bytes verbatim (image-spec, "Image Layout")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from controller.domain.archived import CONFIG_TYPES, ArchivedBlob, ArchivedContent, ArchivedImage, diff_ids, is_layer
from controller.domain.errors import InvalidReferenceError, WharfError
from controller.domain.oci import Descriptor, Manifest, digest_of, parse_manifest
from controller.domain.reference import Reference, is_digest, parse
from controller.sources.documents import Documents, printable

INDEX = "index.json"
_DEEPEST = 3
"""An index may hold indexes; deeper than this is somebody's joke."""

_FULL_NAME = "io.containerd.image.name"
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class _Tree:
    """A manifest and all below it, what it refers to first; `left` are the platforms that its index names and the archive lacks."""

    root: Manifest
    manifests: tuple[Manifest, ...]
    left: tuple[str, ...] = ()


def layout_contents(documents: Documents) -> Iterator[ArchivedContent]:
    """Each image of index.json once, with all of its names."""
    said = documents.json(INDEX, INDEX)
    listed = said.get("manifests") if isinstance(said, dict) else None
    if not isinstance(listed, list):
        raise documents.corrupt(f"{INDEX} lists no manifests")
    names: dict[str, dict[Reference, None]] = {}
    titles: dict[str, str] = {}
    entries: dict[str, Any] = {}
    for each in listed:
        digest = each.get("digest") if isinstance(each, dict) else None
        if not isinstance(digest, str):
            raise documents.corrupt(f"{INDEX} has an entry without a digest")
        entries.setdefault(digest, each)
        for text in _names(each):
            titles.setdefault(digest, text)
            _named(text, names.setdefault(digest, {}))
    for digest, each in entries.items():
        yield _content(documents, each, digest, tuple(names.get(digest, ())), printable(titles.get(digest, digest[:19])))


def _names(entry: dict[str, Any]) -> Iterator[str]:
    annotations = entry.get("annotations")
    if isinstance(annotations, dict):
        full, short = annotations.get(_FULL_NAME), annotations.get(_NAME)
        if isinstance(full, str) and full:
            yield full
        elif isinstance(short, str) and short:
            yield short


def _named(text: str, into: dict[Reference, None]) -> None:
    """Add the name, where it is one: a plain word may be a tag as well, so it is none."""
    if "/" in text or ":" in text:
        try:
            name = parse(text)
        except InvalidReferenceError:
            return
        if name.tag:
            into[name] = None


def _content(documents: Documents, entry: dict[str, Any], digest: str, names: tuple[Reference, ...], title: str) -> ArchivedContent:
    image = ArchivedImage(digest, names, 0)
    try:
        tree = _Walk(documents).tree(digest, str(entry.get("mediaType") or ""), _DEEPEST)
        blobs = tuple({blob.member: blob for manifest in tree.manifests for blob in _blobs(documents, manifest)}.values())
    except WharfError as error:
        return ArchivedContent(image, title, error=error)
    note = f"not in the archive, so left out: {printable(', '.join(tree.left))}" if tree.left else ""
    image = replace(image, identity=tree.root.digest, size=sum(blob.size for blob in blobs))
    return ArchivedContent(image, title, tree.manifests, blobs=blobs, note=note)


class _Walk:
    """From a root down; a manifest that is met twice is read once."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._met: dict[str, _Tree] = {}

    def tree(self, digest: str, media_type: str, depth: int) -> _Tree:
        """The manifest of a digest, and so many levels below it. One that names itself has other bytes than its digest says."""
        if not depth:
            raise self._documents.corrupt("indexes are nested too deep")
        if digest not in self._met:
            self._met[digest] = self._read(digest, media_type, depth - 1)
        return self._met[digest]

    def _read(self, digest: str, media_type: str, depth: int) -> _Tree:
        raw = self._documents.read(path_of(self._documents, digest), f"the manifest {digest[:19]}")
        if digest_of(raw) != digest:
            raise self._documents.corrupt(f"the manifest {digest[:19]} has other bytes than its digest says")
        manifest = parse_manifest(raw, media_type)
        if not manifest.is_index:
            return _Tree(manifest, (manifest,))
        here = [child for child in manifest.children if path_of(self._documents, child.digest) in self._documents]
        trees = [self.tree(child.digest, child.media_type, depth) for child in here]
        left = tuple(child.platform or child.digest[:19] for child in manifest.children if child not in here)
        left += tuple(platform for tree in trees for platform in tree.left)
        below = tuple(dict.fromkeys(each for tree in trees for each in tree.manifests))
        same = [tree.root.digest for tree in trees] == [child.digest for child in manifest.children]
        if same:
            return _Tree(manifest, (*below, manifest), left)
        if not trees:
            raise self._documents.corrupt(f"nothing of what the index {digest[:19]} names is there")
        if len(trees) == 1:
            return replace(trees[0], left=left)
        fewer = _filtered(manifest, {child.digest: tree.root for child, tree in zip(here, trees, strict=True)})
        return _Tree(fewer, (*below, fewer), left)


def _filtered(index: Manifest, kept: dict[str, Manifest]) -> Manifest:
    """The index with only those that are there."""
    said = json.loads(index.raw)
    entries = [each for each in said["manifests"] if each["digest"] in kept]
    for each in entries:
        root = kept[each["digest"]]
        each.update(digest=root.digest, size=len(root.raw), mediaType=root.media_type)
    return parse_manifest(json.dumps({**said, "manifests": entries}).encode(), index.media_type)


def path_of(documents: Documents, digest: str) -> str:
    """Where a blob lies; CorruptError for digests that are not of sha256."""
    if not is_digest(digest) or not digest.startswith("sha256:"):
        raise documents.corrupt(f"the digest {ascii(digest)[:24]} is not of sha256, which alone is supported")
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _blobs(documents: Documents, manifest: Manifest) -> Iterator[ArchivedBlob]:
    said = _layer_ids(documents, manifest)
    for layer, diff_id in zip(manifest.layers, said, strict=True):
        if not layer.non_distributable:
            yield _blob(documents, layer, diff_id, "the layer")
    if manifest.config is not None:
        yield _blob(documents, manifest.config, "", "the config")


def _blob(documents: Documents, blob: Descriptor, diff_id: str, role: str) -> ArchivedBlob:
    entry = documents.members.file(path_of(documents, blob.digest), role)
    if entry.size != blob.size:
        raise documents.corrupt(f"{role} {blob.digest[:19]} has {entry.size} bytes, its manifest says {blob.size}")
    return ArchivedBlob(entry.name, entry.size, blob, diff_id)


def _layer_ids(documents: Documents, manifest: Manifest) -> tuple[str, ...]:
    """What the config says of each layer's plain bytes; "" for what is no layer of an image."""
    layers, config = manifest.layers, manifest.config
    if config is None or config.media_type not in CONFIG_TYPES or not any(is_layer(layer.media_type) for layer in layers):
        return ("",) * len(layers)
    raw = documents.read(path_of(documents, config.digest), f"the config {config.digest[:19]}")
    said = diff_ids(documents.parsed(raw, f"the config {config.digest[:19]}"))
    if said is None or len(said) != len(layers):
        raise documents.corrupt(f"the config {config.digest[:19]} names other layers than the manifest {manifest.digest[:19]}")
    return tuple(diff_id if is_layer(layer.media_type) else "" for layer, diff_id in zip(layers, said, strict=True))
