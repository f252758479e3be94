"""Archives with random damage: never anything but our own errors, and never something partial under a tag."""

from __future__ import annotations

import asyncio
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.desired import Desired
from controller.domain.errors import WharfError
from controller.domain.oci import OCI_MANIFEST, digest_of
from controller.engine.importing import Importer
from controller.engine.manifests import Manifests
from controller.sources.archives import ImageArchives
from tests.support.archives import CONFIG, OCI_LAYER, blob_path, config, described, layer, layout, oci_image, oci_index, saved, tar_of
from tests.support.memory import MemoryRegistry

LOCATE = Desired("", frozenset({"127.0.0.1:5000"}))
LAYERS = [layer("one", 700), layer("two", 20_000)]


def _layout() -> bytes:
    amd, blobs = oci_image(LAYERS)
    arm, more = oci_image(LAYERS[:1], "+zstd")
    index = oci_index({"linux/amd64": amd, "linux/arm64": arm})
    return tar_of(layout({"cyroid/kali:1": index, "cyroid/web:2": arm}, {**blobs, **more, blob_path(index.raw): index.raw}))


ARCHIVES = {
    "saved": tar_of(saved({"cyroid/kali:1": LAYERS, "cyroid/web:2": LAYERS[:1]})),
    "layout": _layout(),
}
PACKED = {
    **ARCHIVES,
    **{f"{name}.gz": gzip.compress(data) for name, data in ARCHIVES.items()},
    **{f"{name}.zst": zstandard.compress(data) for name, data in ARCHIVES.items()},
}


async def _import(data: bytes) -> MemoryRegistry:
    registry = MemoryRegistry()
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "archive"
        path.write_bytes(data)
        found = Importer(registry, ImageArchives(), Manifests()).import_archive(
            str(path), name=None, locate=lambda each: LOCATE.locate(each, adopted=True), advance=lambda _: None
        )
        try:
            async for done in found:
                assert done.error is None or isinstance(done.error, WharfError)
        except WharfError:
            pass
    return registry


def _whole(registry: MemoryRegistry) -> None:
    """What a tag means is there with all that it needs, and each layer is one of those that were in the archive."""
    for home in registry.repositories.values():
        for digest in home.tags.values():
            for manifest in (home.manifests[digest], *(home.manifests[child.digest] for child in home.manifests[digest].children)):
                assert digest_of(manifest.raw) == manifest.digest
                for blob in manifest.blobs:
                    assert digest_of(home.blobs[blob.digest]) == blob.digest
                for blob in manifest.layers:
                    assert _plain(home.blobs[blob.digest]) in LAYERS


def _plain(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return zstandard.decompress(data) if data.startswith(b"\x28\xb5") else data


@pytest.mark.parametrize("kind", PACKED)
@settings(max_examples=60, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4), keep=st.floats(0, 1) | st.just(1.0))
def test_damage_is_told_and_tags_nothing_partial(kind: str, flips: list[tuple[float, int]], keep: float) -> None:
    """Bytes changed anywhere, and cut anywhere."""
    data = bytearray(PACKED[kind])
    for place, change in flips:
        data[int(place * len(data))] ^= change
    _whole(asyncio.run(_import(bytes(data[: int(keep * len(data))]))))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["sha256:" + "0" * 64, "../x", "/x", "cyroid/kali:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["digest", "size", "mediaType", "Layers", "x"]), inner, max_size=3),
    max_leaves=6,
)


def _replaced(document: Any, path: list[float], value: Any) -> Any:
    """The document with something else at a place of it."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    keys = sorted(document) if isinstance(document, dict) else range(len(document))
    key = keys[int(path[0] * len(keys))]
    changed = document.copy()
    changed[key] = _replaced(changed[key], path[1:], value)
    return changed


@pytest.mark.parametrize("name", ["manifest.json", "index.json", "config", "manifest"])
@settings(max_examples=150, deadline=None)
@given(path=st.lists(st.floats(0, 1, exclude_max=True), max_size=5), value=JSON)
def test_documents_that_say_anything(name: str, path: list[float], value: Any) -> None:
    """Well-formed JSON with the wrong things in it, each document at the digest that it then has."""
    raw = json.dumps(_replaced(json.loads(config(LAYERS)), path, value) if name == "config" else json.loads(config(LAYERS))).encode()
    said = {"schemaVersion": 2, "config": described(raw, CONFIG), "layers": [described(each, OCI_LAYER) for each in LAYERS]}
    manifest = json.dumps(_replaced(said, path, value) if name == "manifest" else said).encode()
    index = {"manifests": [described(manifest, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": "cyroid/kali:1"})]}
    saved_ = [{"Config": blob_path(raw), "RepoTags": ["cyroid/kali:2"], "Layers": [blob_path(each) for each in LAYERS]}]
    documents = {"index.json": index, "manifest.json": saved_}
    if name in documents:
        documents[name] = _replaced(documents[name], path, value)
    members = {blob_path(each): each for each in (*LAYERS, raw, manifest)} | {key: json.dumps(each).encode() for key, each in documents.items()}
    _whole(asyncio.run(_import(tar_of(members))))


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_not_damaged_is_whole(kind: str) -> None:
    """The property holds of something: both images are tagged."""
    registry = asyncio.run(_import(PACKED[kind]))
    _whole(registry)
    assert [set(registry.repositories[name].tags) for name in ("cyroid/kali", "cyroid/web")] == [{"1"}, {"2"}]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_at_all(data: bytes) -> None:
    """A file of chance is an error, and no crash."""
    _whole(asyncio.run(_import(data)))
