"""Import: archive to registry. What was in the archive is in the registry, whole and verbatim, or nothing is tagged."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from controller.domain.actions import Import, Reason
from controller.domain.archived import Packing
from controller.domain.desired import ArchiveSource, Desired
from controller.domain.errors import CorruptError, MovedError, NotFoundError, RefusedError, UsageError
from controller.domain.oci import OCI_MANIFEST, digest_of
from controller.domain.ports.archives import OpenArchive
from controller.domain.reference import Target, parse
from controller.engine.importing import STAGING, Imported, Importer
from controller.engine.manifests import Manifests
from controller.sources.archives import ImageArchives
from controller.sources.passing import PassedArchive
from tests.support.archives import blob_path, config, in_folder, layer, layout, oci_image, oci_index, saved, tar_of, written
from tests.support.memory import MemoryRegistry

ONE, TWO, BIG = layer("one"), layer("two"), layer("big", 3_000_000)
KALI = Target("cyroid/kali", "1")
LOCATE = Desired("", frozenset({"127.0.0.1:5000"}))


async def imported(registry: MemoryRegistry, path: str | Path, *, name: Target | None = None, packing: Packing = Packing.FAST) -> dict[str, Imported]:
    """Import a whole archive; what became of each name."""
    importer = Importer(registry, ImageArchives(), Manifests(), packing=packing)
    found = importer.import_archive(str(path), name=name, locate=lambda each: LOCATE.locate(each, adopted=True), advance=lambda _: None)
    return {str(each.target or each.title): each async for each in found}


def plain_layers(registry: MemoryRegistry, target: Target) -> list[bytes]:
    """The layers of a tag, unpacked."""
    home = registry.repositories[target.repository]
    unpack: dict[bytes, Callable[[bytes], bytes]] = {b"\x1f\x8b": gzip.decompress, b"\x28\xb5": _unzstd}
    stored = [home.blobs[each.digest] for each in home.manifests[home.tags[target.tag]].layers]
    return [unpack.get(each[:2], bytes)(each) for each in stored]


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()


def tagged(registry: MemoryRegistry) -> dict[str, str]:
    """Every tag of the registry, and what it means."""
    return {f"{name}:{tag}": digest for name, home in registry.repositories.items() for tag, digest in home.tags.items()}


@pytest.fixture
def registry() -> MemoryRegistry:
    """Empty."""
    return MemoryRegistry()


Stdin = Callable[[bytes], None]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdin]:
    """Let standard input be a pipe with these bytes, which are written as they are read."""
    with ExitStack() as stack:

        def put(data: bytes) -> None:
            reading, writing = os.pipe()
            writer = threading.Thread(target=_write, args=(writing, data))
            stack.callback(writer.join)
            monkeypatch.setattr(sys, "stdin", stack.enter_context(os.fdopen(reading, "rb")))
            writer.start()

        yield put


def _write(fd: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(fd, "wb") as pipe:
        pipe.write(data)


WAYS = ["plain", "gzip", "zstd", "stream", "gzip stream"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path, stdin: Stdin) -> Callable[[bytes], str]:
    """Each way that an archive may be read: random access, packed as a whole, standard input."""

    def put(data: bytes) -> str:
        packs: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "gzip stream": gzip.compress, "zstd": zstandard.compress}
        pack = packs.get(request.param, bytes)
        if request.param.endswith("stream"):
            stdin(pack(data))
            return "-"
        return written(tmp_path / "archive", pack(data))

    return put


async def test_what_an_engine_saved(registry: MemoryRegistry, way: Callable[[bytes], str]) -> None:
    """Every way of reading gives the same: the config verbatim, the layers' content, all tags."""
    done = await imported(registry, way(tar_of(saved({"cyroid/kali:1": [ONE, BIG], "cyroid/web:2": [ONE, TWO]}))))
    assert {name: each.error for name, each in done.items()} == {"cyroid/kali:1": None, "cyroid/web:2": None}
    assert plain_layers(registry, KALI) == [ONE, BIG]
    assert plain_layers(registry, Target("cyroid/web", "2")) == [ONE, TWO]
    manifest = registry._manifest("cyroid/kali", "1")
    assert manifest.config is not None
    assert manifest.config.digest == digest_of(config([ONE, BIG]))
    assert manifest.media_type == OCI_MANIFEST
    assert done["cyroid/kali:1"].digest == manifest.digest


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
async def test_an_oci_layout_stays_verbatim(registry: MemoryRegistry, way: Callable[[bytes], str], suffix: str) -> None:
    """Manifests, index and layers keep their digests, however the layers are stored."""
    amd, blobs = oci_image([ONE, BIG], suffix)
    arm, more = oci_image([TWO], suffix)
    index = oci_index({"linux/amd64": amd, "linux/arm64": arm})
    members = layout({"cyroid/kali:1": index, "cyroid/web:2": arm}, {**blobs, **more, blob_path(index.raw): index.raw})
    done = await imported(registry, way(tar_of(members)))
    assert {name: (each.digest, each.error) for name, each in done.items()} == {
        "cyroid/kali:1": (index.digest, None),
        "cyroid/web:2": (arm.digest, None),
    }
    assert registry._manifest("cyroid/kali", "1").raw == index.raw
    assert registry._manifest("cyroid/kali", arm.digest).raw == arm.raw


async def test_a_folder(registry: MemoryRegistry, tmp_path: Path) -> None:
    """An OCI layout as a folder is read like one in a tar."""
    manifest, blobs = oci_image([ONE, BIG])
    home = in_folder(tmp_path / "layout", layout({"cyroid/kali:1": manifest}, blobs))
    assert (await imported(registry, home))["cyroid/kali:1"].digest == manifest.digest


async def test_the_same_bytes_whatever_way(tmp_path: Path, stdin: Stdin) -> None:
    """Packing is the same for files and streams: a layer that was imported before is found again."""
    data = tar_of(saved({"cyroid/kali:1": [BIG]}))
    first, second = MemoryRegistry(), MemoryRegistry()
    await imported(first, written(tmp_path / "a.tar", data))
    stdin(data)
    await imported(second, "-")
    assert tagged(first) == tagged(second)


@pytest.mark.parametrize("packing", [*Packing])
async def test_every_packing_is_undone_by_others(registry: MemoryRegistry, tmp_path: Path, packing: Packing) -> None:
    """gzip by Python's own gzip, zstd by its library: the layers come out as they went in, the empty one too."""
    empty = b""
    await imported(registry, written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [ONE, BIG, empty]}))), packing=packing)
    assert plain_layers(registry, KALI) == [ONE, BIG, empty]
    for each in registry._manifest("cyroid/kali", "1").layers[:2]:
        data = registry.repositories["cyroid/kali"].blobs[each.digest]
        if packing is not Packing.ZSTD:
            assert zlib.decompress(data, 31) in {ONE, BIG}, "one gzip member, for those that read no more"


async def test_links_inside_the_archive(registry: MemoryRegistry, tmp_path: Path) -> None:
    """A layer may be a symbolic link to another layer, as engines and skopeo write what two images share."""
    members = saved({"cyroid/kali:1": [ONE, TWO]})
    first, second = (f"{digest_of(each)[7:]}/layer.tar" for each in (ONE, TWO))
    del members[second]
    links = {second: f"../{first}"}
    raw = config([ONE, ONE])
    members = {name: data for name, data in members.items() if not name.endswith(".json") or name == "manifest.json"}
    members[f"{digest_of(raw)[7:]}.json"] = raw
    members["manifest.json"] = json.dumps(
        [{"Config": f"{digest_of(raw)[7:]}.json", "RepoTags": ["cyroid/kali:1"], "Layers": [first, second]}]
    ).encode()
    done = await imported(registry, written(tmp_path / "a.tar", tar_of(members, links)))
    assert done["cyroid/kali:1"].error is None
    assert plain_layers(registry, KALI) == [ONE, ONE]


async def test_compressed_layers_of_a_docker_archive_go_verbatim(registry: MemoryRegistry, way: Callable[[bytes], str]) -> None:
    """What is packed already is not packed again, and its diff_id is checked all the same."""
    members = saved({"cyroid/kali:1": [ONE]})
    packed = gzip.compress(ONE)
    members[f"{digest_of(ONE)[7:]}/layer.tar"] = packed
    await imported(registry, way(tar_of(members)))
    assert [each.digest for each in registry._manifest("cyroid/kali", "1").layers] == [digest_of(packed)]


async def test_both_documents_are_one_image(registry: MemoryRegistry, way: Callable[[bytes], str]) -> None:
    """An archive of a newer engine has manifest.json and index.json: the OCI manifest is kept, with the names of both."""
    manifest, blobs = oci_image([ONE], "")
    members = layout({"1": manifest}, blobs)
    raw = config([ONE])
    said = [{"Config": blob_path(raw), "RepoTags": ["cyroid/kali:1", "cyroid/kali:2"], "Layers": [blob_path(ONE)]}]
    done = await imported(registry, way(tar_of({**members, "manifest.json": json.dumps(said).encode()})))
    assert {name: each.digest for name, each in done.items()} == {"cyroid/kali:1": manifest.digest, "cyroid/kali:2": manifest.digest}


async def test_an_index_of_which_the_archive_has_one_platform(registry: MemoryRegistry, way: Callable[[bytes], str]) -> None:
    """That platform comes, verbatim, and what is left out is said."""
    amd, blobs = oci_image([ONE])
    arm, _ = oci_image([TWO])
    index = oci_index({"linux/amd64": amd, "linux/arm64": arm})
    done = await imported(registry, way(tar_of(layout({"cyroid/kali:1": index}, {**blobs, blob_path(index.raw): index.raw}))))
    assert done["cyroid/kali:1"].digest == amd.digest
    assert "linux/arm64" in done["cyroid/kali:1"].note


async def test_what_the_tag_means_already_is_not_moved(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Known by its config, or by its manifest: no byte of a layer is read or written."""
    path = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [BIG]})))
    await imported(registry, path)
    operations: list[str] = []
    registry.fault = operations.append
    done = await imported(registry, path)
    assert done["cyroid/kali:1"].held
    assert not {"write_blob", "stream_blob", "put_manifest"} & set(operations)


async def test_what_a_tag_meant_is_held(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Law 1: the old manifest stays under a tag of its own."""
    old = registry.add("cyroid/kali", "1", b"old")
    await imported(registry, written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [ONE]}))))
    assert tagged(registry)[f"cyroid/kali:wharf-held-{old.digest[7:19]}"] == old.digest


async def test_a_stream_without_a_name_waits_in_the_staging_repository(registry: MemoryRegistry, stdin: Stdin) -> None:
    """Its blobs come before its names; they are mounted from there, and nothing is tagged there. With --name they go where they belong."""
    stdin(tar_of(saved({"cyroid/kali:1": [ONE]})))
    await imported(registry, "-")
    assert registry.repositories[STAGING].blobs.keys() <= registry.repositories["cyroid/kali"].blobs.keys()
    assert set(tagged(registry)) == {"cyroid/kali:1"}
    other = MemoryRegistry()
    stdin(tar_of(saved({"cyroid/kali:1": [ONE]})))
    done = await imported(other, "-", name=Target("tools/base", "2"))
    assert done["tools/base:2"].error is None
    assert set(other.repositories) == {"tools/base"}


async def test_one_bad_image_does_not_stop_the_others(registry: MemoryRegistry, way: Callable[[bytes], str]) -> None:
    """A layer that is not what the config says: that image's error, and it is not tagged."""
    members = saved({"cyroid/kali:1": [ONE, TWO], "cyroid/web:2": [ONE]})
    members[f"{digest_of(TWO)[7:]}/layer.tar"] = layer("other")
    done = await imported(registry, way(tar_of(members)))
    assert isinstance(done["cyroid/kali:1"].error, CorruptError)
    assert "the config says" in str(done["cyroid/kali:1"].error)
    assert set(tagged(registry)) == {"cyroid/web:2"}


async def test_a_name_for_an_archive_that_gives_none(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Without a name it is an error that says --name; with it the image is there. Several images can't have one name."""
    manifest, blobs = oci_image([ONE])
    path = written(tmp_path / "a.tar", tar_of(layout({"latest": manifest}, blobs)))
    (done,) = (await imported(registry, path)).values()
    assert "--name" in str(done.error)
    assert (await imported(registry, path, name=KALI))["cyroid/kali:1"].digest == manifest.digest
    several = written(tmp_path / "b.tar", tar_of(saved({"cyroid/kali:1": [ONE], "cyroid/web:2": [TWO]})))
    with pytest.raises(UsageError, match="2 images"):
        await imported(registry, several, name=KALI)


async def test_layers_of_an_earlier_archive_are_not_packed_again(registry: MemoryRegistry, tmp_path: Path) -> None:
    """An importer remembers what a plain layer became, and mounts it."""
    importer = Importer(registry, ImageArchives(), Manifests())
    operations: list[str] = []
    for number, name in enumerate(("cyroid/kali:1", "cyroid/web:2")):
        path = written(tmp_path / f"{number}.tar", tar_of(saved({name: [BIG]} if not number else {name: [BIG, ONE]})))
        operations.clear()
        registry.fault = operations.append
        found = importer.import_archive(path, name=None, locate=lambda each: LOCATE.locate(each, adopted=True), advance=lambda _: None)
        assert [each.error async for each in found] == [None]
    assert operations.count("stream_blob") == 1
    assert plain_layers(registry, Target("cyroid/web", "2")) == [BIG, ONE]


# The applier's way.


def _action(source: ArchiveSource, identity: str, replaces: str = "") -> Import:
    return Import(target=KALI, sets=("ranges",), reason=Reason.MISSING, message="", source=source, identity=identity, replaces=replaces)


async def _planned(registry: MemoryRegistry, archives: ImageArchives, source: ArchiveSource, replaces: str = "", identity: str = "") -> str:
    identity = identity or (await archives.look(source)).identity
    return await Importer(registry, archives, Manifests()).import_image(_action(source, identity, replaces), lambda _: None)


async def test_a_planned_image_of_several(registry: MemoryRegistry, tmp_path: Path) -> None:
    """By its name in the archive; what look() says is what import_image() wants, and the digest is what the tag means."""
    path = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [ONE], "cyroid/web:2": [TWO]})))
    source = ArchiveSource(path, parse("cyroid/web:2"))
    archives = ImageArchives()
    looked = await archives.look(source)
    assert (looked.identity, looked.names) == (digest_of(config([TWO])), (parse("cyroid/web:2"),))
    digest = await _planned(registry, archives, source)
    assert tagged(registry) == {"cyroid/kali:1": digest}
    assert await _planned(registry, archives, source) == digest, "a second time there is nothing to do"
    with pytest.raises(RefusedError, match="2 images"):
        await archives.look(ArchiveSource(path))
    with pytest.raises(NotFoundError, match="cyroid/none"):
        await archives.look(ArchiveSource(path, parse("cyroid/none:1")))


async def test_an_archive_or_a_tag_that_changed_since_the_plan(registry: MemoryRegistry, tmp_path: Path) -> None:
    """MovedError before a byte of a layer moves, and nobody's image is overwritten."""
    path = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [ONE]})))
    with pytest.raises(MovedError, match="look again"):
        await _planned(registry, ImageArchives(), ArchiveSource(path), identity=digest_of(b"other"))
    theirs = registry.add("cyroid/kali", "1", b"theirs")
    operations: list[str] = []
    registry.fault = operations.append
    with pytest.raises(MovedError, match="the plan saw nothing"):
        await _planned(registry, ImageArchives(), ArchiveSource(path))
    assert "stream_blob" not in operations
    assert tagged(registry) == {"cyroid/kali:1": theirs.digest}


class _Counting(ImageArchives):
    """Counts how often an archive is opened."""

    opened = 0

    @asynccontextmanager
    async def open(self, path: str, packing: Packing) -> AsyncIterator[OpenArchive]:
        self.opened += 1
        async with super().open(path, packing) as archive:
            yield archive


async def test_a_look_reads_a_file_once(tmp_path: Path) -> None:
    """Asked again it is known, until the file changes; and what changed is seen."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(saved({"cyroid/kali:1": [ONE]})))
    archives, source = _Counting(), ArchiveSource(str(path))
    first = await archives.look(source)
    assert (await archives.look(source), archives.opened) == (first, 1)
    path.write_bytes(tar_of(saved({"cyroid/kali:1": [TWO]})))
    assert (await archives.look(source)).identity == digest_of(config([TWO]))
    assert archives.opened == 2


async def test_a_packed_archive_is_not_read_again_for_what_was_seen(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look its documents are known: the import reads the file once, and checks what it reads all the same."""
    source = ArchiveSource(written(tmp_path / "a.tar.gz", gzip.compress(tar_of(saved({"cyroid/kali:1": [ONE, TWO]})))))
    archives = ImageArchives()
    identity = (await archives.look(source)).identity

    async def survey(_: PassedArchive) -> None:
        await asyncio.sleep(0)
        pytest.fail("the documents are known")

    monkeypatch.setattr(PassedArchive, "survey", survey)
    await _planned(registry, archives, source, identity=identity)
    assert plain_layers(registry, KALI) == [ONE, TWO]


async def test_a_cancelled_import_tags_nothing(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Its threads come to rest, and the file is closed."""
    path = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [BIG]})))
    started = asyncio.Event()

    def fault(operation: str) -> None:
        if operation == "stream_blob":
            started.set()

    registry.fault = fault
    doing = asyncio.create_task(imported(registry, path))
    await started.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert tagged(registry) == {}


async def test_an_upload_that_the_registry_lost_is_tried_again(registry: MemoryRegistry, tmp_path: Path) -> None:
    """A file can be read again, so one answer that may pass later is no error of the image; a refusal is, and of that image alone."""
    path = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [BIG], "cyroid/web:2": [ONE]})))
    told: list[int] = []
    failing = [RefusedError("PATCH", "503", retryable=True), RefusedError("PATCH", "503", retryable=True)]

    def fault(operation: str) -> None:
        if operation == "stream_blob" and failing:
            raise failing.pop()

    registry.fault = fault
    importer = Importer(registry, ImageArchives(), Manifests())
    found = importer.import_archive(path, name=None, locate=lambda each: LOCATE.locate(each, adopted=True), advance=told.append)
    assert [each.error async for each in found] == [None, None]
    assert plain_layers(registry, KALI) == [BIG]
    assert sum(told) == len(BIG) + len(ONE), "no byte is told twice"
    other = MemoryRegistry()
    failing = [RefusedError("PATCH", "403")]
    other.fault = fault
    done = await imported(other, path)
    assert sorted(each.error is None for each in done.values()) == [False, True]
    assert len(tagged(other)) == 1


@pytest.mark.parametrize("head", [b"", b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"x/layer.tar"])
async def test_a_silent_stream_can_be_given_up(registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """Who waits for a program that writes nothing is not kept by it."""
    reading, writing = os.pipe()
    os.write(writing, head)
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        doing = asyncio.create_task(imported(registry, "-"))
        await asyncio.wait([doing], timeout=0.5)
        assert not doing.done()
        doing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doing


async def test_a_stream_that_ends_too_early(registry: MemoryRegistry, stdin: Stdin) -> None:
    """The program before us died: an error, and nothing is tagged."""
    data = tar_of(saved({"cyroid/kali:1": [BIG]}))
    stdin(data[: len(data) // 2])
    with pytest.raises(CorruptError, match="standard input"):
        await imported(registry, "-")
    assert tagged(registry) == {}


async def test_two_images_of_one_name(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Nobody knows which one is meant: the first is taken, the other one is an error that says so."""
    members = saved({"cyroid/kali:1": [ONE], "docker.io/cyroid/kali:1": [TWO]})
    path = written(tmp_path / "a.tar", tar_of(members))
    importer = Importer(registry, ImageArchives(), Manifests())
    found = importer.import_archive(path, name=None, locate=lambda each: LOCATE.locate(each, adopted=True), advance=lambda _: None)
    done = [each async for each in found]
    (failed,) = (each for each in done if each.error)
    assert str(failed.error).startswith("importing cyroid/kali:1: two images")
    assert len(done) == 2


async def test_what_is_mounted_nowhere_is_copied(registry: MemoryRegistry, stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry may refuse to mount: then the blob is read from where it waits."""

    async def refused(*_: object) -> bool:
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(registry, "mount", refused)
    stdin(tar_of(saved({"cyroid/kali:1": [ONE]})))
    assert (await imported(registry, "-"))["cyroid/kali:1"].error is None
    assert plain_layers(registry, KALI) == [ONE]
