"""Archives that are damaged, or made to do harm: a clear error of ours, in bounded memory, and nothing leaves the archive."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard

from controller.domain.archived import Form, Packing
from controller.domain.desired import ArchiveSource
from controller.domain.errors import CorruptError, NotFoundError, RemoteError
from controller.domain.oci import OCI_INDEX, digest_of, parse_manifest
from controller.sources import documents, members, streams, tar
from controller.sources.archives import ImageArchives
from tests.support.archives import blob_path, described, in_folder, layer, layout, oci_image, oci_index, saved, tar_of, written

ONE = layer("one")
SAVED = saved({"cyroid/kali:1": [ONE]})
LAYER = f"{digest_of(ONE)[7:]}/layer.tar"


async def _error(path: str | Path) -> str:
    """Why nothing can be had of it: an error of the archive, or of its only image, and no other kind."""
    try:
        async with ImageArchives().open(str(path), Packing.FAST) as archive:
            for content in archive.contents or ():
                if content.error is not None:
                    raise content.error
            async for blob in archive.blobs({blob.member for content in archive.contents or () for blob in content.blobs}):
                async for _ in blob.chunks():
                    pass
    except RemoteError as error:
        return str(error)
    return ""


def _archive(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                made.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                made.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _without_layer(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    return _archive(*[(name, data) for name, data in SAVED.items() if name != LAYER], *entries)


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "neither manifest.json nor index.json"),
    "no tar": (b"hello" * 1000, "begins with no tar header"),
    "cut in a layer": (tar_of(SAVED)[:4000], "ends in the middle of a member"),
    "cut in a header": (tar_of(SAVED)[:700], "not a whole one"),
    "cut gzip": (gzip.compress(tar_of(SAVED))[:-400], "ends too early"),
    "cut gzip's end": (gzip.compress(tar_of(SAVED))[:-4], "ends too early"),
    "wrong checksum of gzip": (gzip.compress(tar_of(SAVED))[:-8] + bytes(8), "damaged"),
    "more behind gzip": (gzip.compress(tar_of(SAVED)) + b"more", "follows the gzip stream"),
    "cut zstd": (zstandard.compress(tar_of(SAVED))[:-500], "not a whole one"),
    "damaged zstd": (zstandard.compress(tar_of(SAVED))[:20] + b"\xff" * 500, "zstd stream is damaged"),
    "only repositories": (tar_of({"repositories": b"{}", "x/layer.tar": ONE, "x/json": b"{}", "x/VERSION": b"1.0"}), "before 1.10"),
    "no JSON": (tar_of({**SAVED, "manifest.json": b"{"}), "manifest.json is no JSON"),
    "deep JSON": (tar_of({**SAVED, "manifest.json": b"[" * 100_000}), "manifest.json is no JSON"),
    "no list": (tar_of({**SAVED, "manifest.json": b"{}"}), "manifest.json is no list"),
    "no config": (tar_of({name: data for name, data in SAVED.items() if not name.endswith(".json") or name == "manifest.json"}), "the config"),
    "no layer": (_without_layer(), "is missing"),
    "a name that is none": (tar_of({**SAVED, "manifest.json": SAVED["manifest.json"].replace(b"kali:1", b"KALI:!")}), "a name that is none"),
    "a layer twice": (_archive(*SAVED.items(), (LAYER, b"other")), "is there twice"),
    "a link that leads out": (_without_layer(_special(LAYER, tarfile.SYMTYPE, "../../etc/passwd")), "leads out of the archive"),
    "an absolute link": (_without_layer(_special(LAYER, tarfile.SYMTYPE, "/etc/passwd")), "leads out of the archive"),
    "a hard link that leads out": (_without_layer(_special(LAYER, tarfile.LNKTYPE, "../x")), "leads out of the archive"),
    "links in circles": (_without_layer(_special(LAYER, tarfile.SYMTYPE, "../b"), _special("b", tarfile.SYMTYPE, LAYER)), "leads in circles"),
    "a device": (_without_layer(_special(LAYER, tarfile.CHRTYPE)), "a device"),
    "a pipe": (_without_layer(_special(LAYER, tarfile.FIFOTYPE)), "a device, a pipe"),
    "a folder": (_without_layer(_special(LAYER, tarfile.DIRTYPE)), "is missing"),
    "a path that leads out": (tar_of({**SAVED, "manifest.json": SAVED["manifest.json"].replace(LAYER.encode(), b"../../etc/passwd")}), "leads out"),
    "an absolute path": (tar_of({**SAVED, "manifest.json": SAVED["manifest.json"].replace(LAYER.encode(), b"/etc/passwd")}), "leads out"),
    "a config with other bytes": (
        tar_of({name: data.replace(b"amd64", b"arm64") if name.endswith(".json") else data for name, data in SAVED.items()}),
        "other bytes than its name says",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_archive_is_a_clear_error(tmp_path: Path, case: str) -> None:
    """It names the file and what is wrong with it; nothing outside is ever read."""
    data, words = BAD[case]
    said = await _error(written(tmp_path / "bad.tar", data))
    assert words in said
    assert "bad.tar" in said


async def test_no_such_file(tmp_path: Path) -> None:
    """NotFound: a file that is not there, and a look at it."""
    with pytest.raises(NotFoundError, match="no such file"):
        await ImageArchives().look(ArchiveSource(str(tmp_path / "none.tar")))


# What an OCI layout may say.


def _layout(root: bytes, media_type: str, blobs: dict[str, bytes]) -> bytes:
    index = {"schemaVersion": 2, "manifests": [described(root, media_type, annotations={"org.opencontainers.image.ref.name": "cyroid/kali:1"})]}
    return tar_of({**blobs, blob_path(root): root, "oci-layout": b"{}", "index.json": json.dumps(index).encode()})


def _entry_in_index(**more: Any) -> bytes:
    manifest, blobs = oci_image([ONE])
    return tar_of({**blobs, "index.json": json.dumps({"manifests": [{**described(manifest.raw, manifest.media_type), **more}]}).encode()})


def _nested(times: int) -> bytes:
    child, blobs = oci_image([ONE])
    for _ in range(times):
        child = oci_index({"linux/amd64": child})
        blobs[blob_path(child.raw)] = child.raw
    return tar_of(layout({"cyroid/kali:1": child}, blobs))


def _changed(path_of: Callable[[Any], str], data: bytes | None) -> bytes:
    manifest, blobs = oci_image([ONE])
    path = path_of(manifest)
    if data is None:
        del blobs[path]
    else:
        blobs[path] = data
    return tar_of(layout({"cyroid/kali:1": manifest}, blobs))


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _naming_itself() -> bytes:
    digest = "sha256:" + "a" * 64
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": digest, "size": 1}]}).encode()
    listed = {"manifests": [{"mediaType": OCI_INDEX, "digest": digest, "size": len(index)}]}
    return tar_of({_path(digest): index, "index.json": json.dumps(listed).encode()})


LAYOUTS: dict[str, tuple[bytes, str]] = {
    "sha512": (_entry_in_index(digest="sha512:" + "0" * 128), "is not of sha256"),
    "a digest that is a path": (_entry_in_index(digest="sha256:../../../etc/passwd"), "is not of sha256"),
    "no digest": (_entry_in_index(digest=7), "without a digest"),
    "an unknown type": (_layout(b'{"schemaVersion": 2, "mediaType": "x/y"}', "x/y", {}), "media type 'x/y'"),
    "schema 1": (_layout(b'{"schemaVersion": 1, "fsLayers": []}', "application/vnd.docker.distribution.manifest.v1+json", {}), "media type"),
    "an index that names itself": (_naming_itself(), "other bytes than its digest says"),
    "nested too deep": (_nested(5), "nested too deep"),
    "a missing manifest": (_changed(lambda manifest: _path(manifest.digest), None), "is missing"),
    "a missing layer": (_changed(lambda manifest: _path(manifest.layers[0].digest), None), "is missing"),
    "a missing config": (_changed(lambda manifest: _path(manifest.config.digest), None), "is missing"),
    "a layer of another size": (_changed(lambda manifest: _path(manifest.layers[0].digest), b"x"), "its manifest says"),
    "a manifest with other bytes": (_changed(lambda manifest: _path(manifest.digest), b"{}"), "other bytes than its digest says"),
}


@pytest.mark.parametrize("case", LAYOUTS)
async def test_a_bad_layout_is_a_clear_error(tmp_path: Path, case: str) -> None:
    """The same for what index.json leads to."""
    data, words = LAYOUTS[case]
    assert words in await _error(written(tmp_path / "bad.tar", data))


async def test_a_layer_with_other_bytes(tmp_path: Path) -> None:
    """Of the same size, so that only hashing tells."""
    manifest, blobs = oci_image([ONE], "")
    blobs[_path(manifest.layers[0].digest)] = ONE[:-1] + b"x"
    assert "the archive is damaged" in await _error(written(tmp_path / "bad.tar", tar_of(layout({"cyroid/kali:1": manifest}, blobs))))


async def test_an_index_of_nothing_that_is_there(tmp_path: Path) -> None:
    """An index whose manifests are all elsewhere is no image."""
    manifest, _ = oci_image([ONE])
    index = oci_index({"linux/amd64": manifest})
    said = await _error(written(tmp_path / "bad.tar", tar_of(layout({"cyroid/kali:1": index}, {blob_path(index.raw): index.raw}))))
    assert "is there" in said


async def test_a_wide_and_deep_index_is_read_once(tmp_path: Path) -> None:
    """Indexes that name the same indexes thousands of times cost no more than their bytes."""
    child, blobs = oci_image([ONE])
    for _ in range(2):
        entry = described(child.raw, child.media_type)
        child = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] * 5000}).encode())
        blobs[blob_path(child.raw)] = child.raw
    assert await _error(written(tmp_path / "wide.tar", tar_of(layout({"cyroid/kali:1": child}, blobs)))) == ""


async def test_links_of_a_folder_are_not_followed_out_of_it(tmp_path: Path) -> None:
    """A blob that is a link to a file elsewhere, a folder that is a link, and a pipe, at which nobody waits."""
    manifest, blobs = oci_image([ONE])
    path = _path(manifest.layers[0].digest)
    outside = written(tmp_path / "outside", blobs[path])
    homes = [in_folder(tmp_path / name, layout({"cyroid/kali:1": manifest}, blobs)) for name in ("link", "pipe")]
    for home in homes:
        (home / path).unlink()
    (homes[0] / path).symlink_to(outside)
    os.mkfifo(homes[1] / path)
    assert "leads out of the archive" in await _error(homes[0])
    assert "a pipe" in await _error(homes[1])
    home = in_folder(tmp_path / "folder", layout({"cyroid/kali:1": manifest}, blobs))
    (home / "blobs").rename(tmp_path / "blobs-elsewhere")
    (home / "blobs").symlink_to(tmp_path / "blobs-elsewhere")
    assert "is missing" in await _error(home)


async def test_nothing_in_an_archive_steers_a_terminal(tmp_path: Path) -> None:
    """Names of members and of images are shown without what can't be printed."""
    manifest, _ = oci_image([ONE])
    escape = "\x1b[2J\udcff"
    made = tar_of({f"{escape}.json": b"{}", **layout({escape: manifest, f"{escape}:1": manifest}, {})})
    async with ImageArchives().open(written(tmp_path / "bad.tar", made), Packing.FAST) as archive:
        (content,) = archive.contents or ()
    assert f"{content.title}{content.error}".isprintable()
    saved_ = [{"Config": f"{escape}.json", "RepoTags": [], "Layers": []}]
    said = await _error(written(tmp_path / "bad.tar", tar_of({f"{escape}.json": b"{}", "manifest.json": json.dumps(saved_).encode()})))
    assert said.isprintable()
    assert said
    cut = gzip.compress(tar_of({f"{escape}.tar": bytes(5000)})[:3000])
    said = await _error(written(tmp_path / "bad.tar", cut))
    assert said.isprintable()
    assert "ends in the middle" in said


# Bounds.


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    """More members that matter than any image archive has: refused, however it is read."""
    monkeypatch.setattr(members, "MOST", 5)
    many = tar_of({**{f"x{number}": b"{}" for number in range(9)}, **SAVED})
    assert "more than 5 members" in await _error(written(tmp_path / "bad.tar", pack(many)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_too_large_documents(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """A manifest.json beyond 4 MiB is not read."""
    large = b"[" + b" " * documents.MAX_DOCUMENT + b"]"
    assert "more than any document has" in await _error(written(tmp_path / "bad.tar", pack(tar_of({**SAVED, "manifest.json": large}))))


async def test_too_many_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of a stream are kept until its end, so their sum is bounded too."""
    from controller.sources import passing

    monkeypatch.setattr(passing, "MAX_DOCUMENTS", 5_000_000)
    filling = {f"{number}.json": b"{" + b" " * 1_000_000 for number in range(9)}
    assert "of documents" in await _error(written(tmp_path / "bad.tar", gzip.compress(tar_of({**filling, **SAVED}))))


class _Zeros:
    """A gzip or zstd stream of zeros without an end, made as it is read."""

    def __init__(self, form: Form) -> None:
        self._packed = self._gzip() if form is Form.GZIP else self._zstd()
        self._left = b""

    def _gzip(self) -> Iterator[bytes]:
        import zlib

        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        while True:
            yield packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)

    def _zstd(self) -> Iterator[bytes]:
        frame = zstandard.compress(bytes(1 << 24))
        while True:
            yield frame

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            self._left += next(self._packed)
        data, self._left = self._left[:size], self._left[size:]
        return data


@pytest.mark.parametrize("form", [Form.GZIP, Form.ZSTD])
def test_a_bomb_is_given_up(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """What grows a thousand times and more, beyond a bound, is refused; each read gives no more than was asked for."""
    monkeypatch.setattr(streams, "_BOMB_FROM", 1 << 24)
    monkeypatch.setattr(streams, "_BOMB_RATIO", 100)
    plain = streams.unpacked(_Zeros(form), form, "x")

    def read_on() -> None:
        for _ in range(5000):
            assert len(plain.read(1 << 16)) <= 1 << 16

    with pytest.raises(CorruptError, match="a bomb"):
        read_on()


def test_headers_are_bounded() -> None:
    """A pax header that says that it is huge is not read, nor is a member beyond all sizes."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(CorruptError, match="a header of"):
        tar.Headers(_Sectors(info.tobuf(tarfile.GNU_FORMAT)), "x").next()
    info.type, info.size = tarfile.REGTYPE, 1 << 60
    with pytest.raises(CorruptError, match="a member of"):
        tar.Headers(_Sectors(info.tobuf(tarfile.GNU_FORMAT)), "x").next()


class _Sectors:
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    @property
    def position(self) -> int:
        return self._data.tell()

    def take(self, size: int) -> bytes:
        return self._data.read(size)

    def skip(self, size: int) -> None:
        self._data.seek(size, io.SEEK_CUR)


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_way_to_write_a_header(style: Literal[1, 2]) -> None:
    """Long names and links, sizes beyond 8 GiB, folders, a sparse file: read as Python's own tarfile reads them."""
    made = []
    for name, kind, size, target in (
        ("short", tarfile.REGTYPE, 5, ""),
        ("long/" * 60 + "name", tarfile.REGTYPE, 0, ""),
        ("link", tarfile.SYMTYPE, 0, "to/" * 60 + "x"),
        ("hard", tarfile.LNKTYPE, 0, "short"),
        ("folder", tarfile.DIRTYPE, 0, ""),
        ("näme", tarfile.REGTYPE, 1 << 40, ""),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, size, target
        made.append(info)
    data = b"".join(each.tobuf(style) + bytes(-each.size % 512 + each.size if each.size < 512 else 0) for each in made)
    sectors = _Sectors(data)
    headers = tar.Headers(sectors, "x")
    found = []
    while (entry := headers.next()) is not None:
        found.append((entry.name, entry.size, entry.target))
        sectors.skip(entry.stored if entry.size < 512 else 0)
    assert found == [(each.name, each.size, each.linkname) for each in made]
