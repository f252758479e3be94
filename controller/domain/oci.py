"""Manifests, indexes and descriptors as values, read from the bytes that a registry sent.

Rules: OCI image-spec 1.1 (manifest.md, image-index.md, descriptor.md) and the Docker image manifest v2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from controller.domain.errors import CorruptError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""Always sent together in Accept, on HEAD and GET alike: without an OCI type an OCI manifest is 404, a false "absent"."""

MAX_MANIFEST = 4 << 20
"""Bytes. A registry refuses larger manifests (distribution-spec, "Pushing Manifests"), so none is ever read beyond that."""


def digest_of(data: bytes) -> str:
    """The sha256 digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one blob or of one child manifest. `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    def annotation(self, name: str) -> str:
        """An annotation's value, "" where there is none."""
        return next((value for key, value in self.annotations if key == name), "")

    @property
    def non_distributable(self) -> bool:
        """Whether the content is left at its urls, so that it can't be proven (image-spec, "Non-Distributable Layers")."""
        return bool(self.urls) or "nondistributable" in self.media_type or "foreign" in self.media_type


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index as the registry holds it: `raw` verbatim, and what it refers to.

    A single image has `config` and `layers`; an index has `children`. `digest` is the hash of `raw`. `subject` is what a signature or the like says
    that it is about (image-spec, "Manifest", subject); None for an image.
    """

    raw: bytes
    media_type: str
    digest: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether this is an index (Docker: a manifest list)."""
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The blobs that it needs to be whole: layers, then config. Those that are left at their urls are not among them."""
        own = (*self.layers, self.config) if self.config else self.layers
        return tuple(d for d in own if not d.non_distributable)

    @property
    def size(self) -> int:
        """Bytes of this manifest's own blobs (an index: of its children's manifests)."""
        return sum(d.size for d in (*self.blobs, *self.children))


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest:
    """The manifest that `raw` holds; `media_type` is the Content-Type that came with it.

    Raises CorruptError when it is no manifest that Wharfinger can move whole (schema 1 among them).
    """
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _corrupt(f"not JSON ({error.__class__.__name__})") from None
    if not isinstance(said, dict):
        raise _corrupt(f"JSON {type(said).__name__}, not an object")
    kind = said.get("mediaType") or media_type.partition(";")[0].strip() or _guess(said)
    if kind not in MANIFEST_TYPES:
        raise _corrupt(f"media type {kind!r}, expected one of {', '.join(MANIFEST_TYPES)}")
    digest = digest_of(raw)
    subject = None if said.get("subject") is None else _descriptor(said["subject"], "subject")
    kind_of_artifact, notes = _text(said.get("artifactType")), _annotations(said.get("annotations"))
    about: dict[str, Any] = {"subject": subject, "artifact_type": kind_of_artifact, "annotations": notes}
    if kind in INDEX_TYPES:
        return Manifest(raw, kind, digest, children=_descriptors(said, "manifests"), **about)
    config = _descriptor(said.get("config"), "config")
    return Manifest(raw, kind, digest, config=config, layers=_descriptors(said, "layers"), **about)


def _guess(said: dict[str, Any]) -> str:
    if "manifests" in said:
        return OCI_INDEX
    return OCI_MANIFEST if "config" in said and "layers" in said else ""


def _descriptors(said: dict[str, Any], field: str) -> tuple[Descriptor, ...]:
    listed = said.get(field)
    if not isinstance(listed, list):
        raise _corrupt(f"{field} is missing or no list")
    return tuple(_descriptor(each, f"{field}[{i}]") for i, each in enumerate(listed))


def _descriptor(said: object, where: str) -> Descriptor:
    if not isinstance(said, dict):
        raise _corrupt(f"{where} is missing or no descriptor")
    digest, size = said.get("digest"), said.get("size")
    if not isinstance(digest, str) or ":" not in digest or not isinstance(size, int) or size < 0:
        raise _corrupt(f"{where} lacks a digest or a size")
    urls = said.get("urls") or ()
    if not isinstance(urls, (list, tuple)):
        raise _corrupt(f"{where}.urls is no list")
    platform, kind, notes = platform_of(said.get("platform")), _text(said.get("artifactType")), _annotations(said.get("annotations"))
    return Descriptor(str(said.get("mediaType", "")), digest, size, platform, tuple(map(str, urls)), kind, notes)


def platform_of(said: object) -> str:
    """os/architecture[/variant] of a descriptor's platform, or of a config, which has the same fields; "" where there is none."""
    if not isinstance(said, dict):
        return ""
    parts = (said.get("os"), said.get("architecture"), said.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _text(said: object) -> str:
    return said if isinstance(said, str) else ""


def _annotations(said: object) -> tuple[tuple[str, str], ...]:
    """What is no text is none: nobody may stumble over a note."""
    return tuple((key, value) for key, value in said.items() if isinstance(value, str)) if isinstance(said, dict) else ()


def _corrupt(answer: str) -> CorruptError:
    return CorruptError("reading a manifest", answer, hint="the registry holds something that is no image under this name")


async def once(data: bytes) -> AsyncIterator[bytes]:
    """What is in memory already, as a blob's chunks."""
    yield data
