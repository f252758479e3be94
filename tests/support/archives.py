"""Image archives of a few bytes, as `docker save` and others write them, and whatever may be wrong with them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import zstandard

from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Manifest, digest_of, parse_manifest

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


def tar_of(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], links: Mapping[str, str] | None = None) -> bytes:
    """A tar of these members, in this order; then symbolic links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: found.read() for info in tar if (found := tar.extractfile(info)) is not None}


def layer(word: str, size: int = 3000) -> bytes:
    """A layer's plain tar."""
    return tar_of({f"etc/{word}": (word.encode() * size)[:size]})


def config(layers: Iterable[bytes], **more: Any) -> bytes:
    """A config that names these plain layers."""
    said = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]}, **more}
    return json.dumps(said).encode()


def saved(images: Mapping[str, list[bytes]]) -> dict[str, bytes]:
    """The members of a `docker save` of these images, as an engine of 1.10 to 24 writes them: layers first, manifest.json last."""
    members: dict[str, bytes] = {}
    listed = []
    for name, layers in images.items():
        raw = config(layers)
        paths = [f"{digest_of(each)[7:]}/layer.tar" for each in layers]
        for path, each in zip(paths, layers, strict=True):
            members |= {f"{path.partition('/')[0]}/VERSION": b"1.0", f"{path.partition('/')[0]}/json": b"{}", path: each}
        members[f"{digest_of(raw)[7:]}.json"] = raw
        listed.append({"Config": f"{digest_of(raw)[7:]}.json", "RepoTags": [name], "Layers": paths})
    return {**members, "manifest.json": json.dumps(listed).encode(), "repositories": b"{}"}


def blob_path(data: bytes) -> str:
    """Where an OCI layout keeps it."""
    return f"blobs/sha256/{digest_of(data)[7:]}"


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """A descriptor."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def oci_image(layers: Iterable[bytes], suffix: str = "+gzip", more: Mapping[str, Any] | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest and its blobs; the layers are stored as the suffix of their type says, `more` goes into the config."""
    plain = list(layers)
    packs: dict[str, Callable[[bytes], bytes]] = {"+gzip": gzip.compress, "+zstd": zstandard.compress, "": bytes}
    pack = packs[suffix]
    stored, raw = [pack(each) for each in plain], config(plain, **(more or {}))
    said = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(raw, CONFIG),
        "layers": [described(each, OCI_LAYER + suffix) for each in stored],
    }
    manifest = parse_manifest(json.dumps(said, indent=2).encode())
    return manifest, {blob_path(each): each for each in (*stored, raw, manifest.raw)}


def oci_index(children: Mapping[str, Manifest]) -> Manifest:
    """An index of one child each platform."""
    entries = []
    for platform, child in children.items():
        system, _, architecture = platform.partition("/")
        entries.append(described(child.raw, child.media_type, platform={"os": system, "architecture": architecture}))
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, indent=1).encode())


def layout(roots: Mapping[str, Manifest], blobs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members of an OCI layout: blobs first, as engines write them."""
    listed = [described(root.raw, root.media_type, annotations={"org.opencontainers.image.ref.name": name}) for name, root in roots.items()]
    index = {"schemaVersion": 2, "manifests": listed}
    return {**blobs, "oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}


def in_folder(home: Path, members: Mapping[str, bytes]) -> Path:
    """The same as a folder."""
    for name, data in members.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return home


def written(path: Path, data: bytes) -> str:
    """A file of these bytes; its path."""
    path.write_bytes(data)
    return str(path)
