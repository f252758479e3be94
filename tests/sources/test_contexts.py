"""Dockerfile folders: what is sent, and the hash by which a change is known."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.domain.desired import BuildSource
from controller.domain.errors import CorruptError, MovedError, NotFoundError, RemoteError
from controller.domain.ports.hosts import BuildRequest
from controller.hosts.docker_engine import DockerHost
from controller.sources import contexts as module
from controller.sources.contexts import FolderContexts
from controller.sources.folder import Item
from tests.support.folders import folder, source_of
from tests.support.servers import EngineServer

DOCKERFILE = "FROM scratch\nCOPY . /\n"


async def _sent(source: BuildSource, contexts: FolderContexts | None = None) -> list[tarfile.TarInfo]:
    return tarfile.open(fileobj=io.BytesIO(await _tar(source, contexts))).getmembers()


async def _tar(source: BuildSource, contexts: FolderContexts | None = None) -> bytes:
    return b"".join([chunk async for chunk in (contexts or FolderContexts()).tar(source)])


async def _names(source: BuildSource) -> set[str]:
    return {info.name for info in await _sent(source)}


async def _hash(source: BuildSource) -> str:
    return (await FolderContexts().look(source)).hash


async def test_the_tar_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    """Times, owners and the order in which files were made play no part; so an engine's cache is hit."""
    files = {"Dockerfile": DOCKERFILE, "b/c": "c", "b-a": "x", "a": "a", "b.txt": "y"}
    one = source_of(tmp_path / "one", files)
    two = source_of(tmp_path / "two", dict(reversed(files.items())))
    os.utime(tmp_path / "two/a", (1, 1))
    os.chown(tmp_path / "two/a", 1234, 1234)
    assert await _tar(one) == await _tar(two)
    assert await _hash(one) == await _hash(two)
    infos = await _sent(one)
    assert [info.name for info in infos] == ["Dockerfile", "a", "b", "b/c", "b-a", "b.txt"]
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in infos} == {(0, 0, 0, "", "")}


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda top: (top / "a").write_text("b"),
    "a longer content": lambda top: (top / "a").write_text("aa"),
    "a name": lambda top: (top / "a").rename(top / "c"),
    "a mode": lambda top: (top / "a").chmod(0o755),
    "a folder's mode": lambda top: (top / "d").chmod(0o700),
    "a new file": lambda top: (top / "new").write_text(""),
    "a new empty folder": lambda top: (top / "new").mkdir(),
    "a file that is gone": lambda top: (top / "a").unlink(),
    "a link's target": lambda top: (top / "d/other").rename(top / "link"),
    "a file instead of a link": lambda top: (top / "d/e").rename(top / "link"),
    "the Dockerfile": lambda top: (top / "Dockerfile").write_text("FROM scratch\n"),
    "the ignore file": lambda top: (top / ".dockerignore").write_text("nothing\n"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_of_what_is_sent_changes_the_hash(tmp_path: Path, change: str) -> None:
    """Names, kinds, modes, contents and link targets: seen by one that remembers hashes, and by one that does not."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "a": "a", "d/e": "e"})
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "d/other").symlink_to("d")
    contexts = FolderContexts(lambda: 1 << 62)
    before = await contexts.look(source)
    assert await contexts.look(source) == before
    CHANGES[change](tmp_path)
    after = await contexts.look(source)
    assert after.hash != before.hash
    assert after.hash == await _hash(source)


async def test_every_other_thing_a_build_depends_on_changes_the_hash(tmp_path: Path) -> None:
    """The Dockerfile's path, the arguments, the stage and the platform, and none of them can be taken for another."""
    top = str(folder(tmp_path, {"Dockerfile": DOCKERFILE, "other": DOCKERFILE}))
    plain = BuildSource(top, "local")
    others = [
        BuildSource(top, "local", dockerfile="other"),
        BuildSource(top, "local", target="a"),
        BuildSource(top, "local", platform="a"),
        BuildSource(top, "local", args=(("a", "b"),)),
        BuildSource(top, "local", args=(("a", "c"),)),
        BuildSource(top, "local", args=(("ab", ""),)),
    ]
    hashes = [await _hash(source) for source in (plain, *others)]
    assert len(set(hashes)) == len(hashes)
    assert await _hash(BuildSource(top, "another")) == hashes[0]
    assert await _hash(BuildSource(top, "local", dockerfile="./Dockerfile")) == hashes[0]


async def test_what_is_left_out_plays_no_part(tmp_path: Path) -> None:
    """A file that .dockerignore names is neither sent nor hashed, nor even read."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, ".dockerignore": "log\nsecret\n", "a": "a"})
    before = await _hash(source)
    (tmp_path / "log").write_text("more")
    (tmp_path / "secret").symlink_to("/etc/shadow")
    assert await _hash(source) == before
    assert await _names(source) == {"Dockerfile", ".dockerignore", "a"}


async def test_the_size_is_the_tars(tmp_path: Path) -> None:
    """As many bytes as will be sent, long names and odd lengths too."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "x" * 150 + "/" + "y" * 150: "a" * 513, "empty": "", "z": "b" * 512})
    assert (await FolderContexts().look(source)).size == len(await _tar(source))


async def test_links_are_sent_as_links(tmp_path: Path) -> None:
    """What a link leads to outside of the folder is never read, not even by a link to a folder."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    source = source_of(tmp_path / "in", {"Dockerfile": DOCKERFILE})
    (tmp_path / "in/file").symlink_to("../outside/secret")
    (tmp_path / "in/folder").symlink_to("../outside")
    (tmp_path / "in/broken").symlink_to("nowhere")
    links = {info.name: info.linkname for info in await _sent(source) if info.issym()}
    assert links == {"file": "../outside/secret", "folder": "../outside", "broken": "nowhere"}
    assert b"secret" not in (await _tar(source)).replace(b"../outside/secret", b"")


async def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing and the opening somebody exchanges a folder for a link: refused, nothing outside is read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    source = source_of(tmp_path / "in", {"Dockerfile": DOCKERFILE, "sub/a": "a"})
    real = os.stat

    def exchanging(path: Any, **more: Any) -> os.stat_result:
        found = real(path, **more)
        if path == "sub" and (tmp_path / "in/sub").is_dir() and not (tmp_path / "in/sub").is_symlink():
            (tmp_path / "in/sub").rename(tmp_path / "was")
            (tmp_path / "in/sub").symlink_to("../outside")
        return found

    monkeypatch.setattr(os, "stat", exchanging)
    with pytest.raises(CorruptError, match="sub"):
        await FolderContexts().look(source)


async def test_what_is_no_file_is_left_out(short_path: Path) -> None:
    """A pipe would be waited for forever, a socket has no content."""
    source = source_of(short_path, {"Dockerfile": DOCKERFILE})
    os.mkfifo(short_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short_path / "socket"))
        assert await _names(source) == {"Dockerfile"}


async def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    """A name is bytes."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "größe": "a"})
    raw = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.close(os.open(raw, os.O_CREAT))
    assert "gr\u00f6\u00dfe" in await _names(source)
    assert b"\xff\xfe" in await _tar(source)
    before = await _hash(source)
    os.rename(raw, raw + b"\xfd")  # noqa: PTH104 - the name is no text
    assert await _hash(source) != before


@pytest.mark.parametrize(
    ("files", "source", "words"),
    [
        ({"a": "a"}, {}, "Dockerfile"),
        ({"Dockerfile/a": "a"}, {}, "no such file"),
        ({"Dockerfile": ""}, {"dockerfile": "../Dockerfile"}, "outside"),
        ({"Dockerfile": ""}, {"dockerfile": "/etc/passwd"}, "outside"),
        ({"Dockerfile": "", ".dockerignore": "fine\n[\n"}, {}, "line 2"),
        ({"Dockerfile": "", ".dockerignore": "a" * ((1 << 20) + 1)}, {}, "larger"),
    ],
)
async def test_what_can_not_be_built_is_said(tmp_path: Path, files: dict[str, str], source: dict[str, str], words: str) -> None:
    """No Dockerfile, one outside of the folder, patterns that are none: an error that names the place, by look and by tar."""
    said = source_of(tmp_path / "in", files, **source)
    for asked in (_hash(said), _tar(said)):
        with pytest.raises((NotFoundError, CorruptError), match=words) as failed:
            await asked
        assert str(tmp_path) in str(failed.value)


async def test_a_dockerfile_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """By a link too; one that leads elsewhere in the folder is sent with what it leads to."""
    (tmp_path / "outside").write_text(DOCKERFILE)
    source = source_of(tmp_path / "in", {"real": DOCKERFILE, ".dockerignore": "*"})
    (tmp_path / "in/Dockerfile").symlink_to("real")
    assert await _names(source) == {"Dockerfile", "real", ".dockerignore"}
    (tmp_path / "in/Dockerfile").unlink()
    (tmp_path / "in/Dockerfile").symlink_to("../outside")
    with pytest.raises(CorruptError, match="outside"):
        await _hash(source)


async def test_no_folder(tmp_path: Path) -> None:
    """Absent is said as such."""
    with pytest.raises(NotFoundError, match="no such folder"):
        await _hash(BuildSource(str(tmp_path / "none"), "local"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFoundError, match="no such folder"):
        await _hash(BuildSource(str(tmp_path / "file"), "local"))


async def test_a_part_that_can_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a folder is never taken for the whole; root may read everything, so the system's refusal is made up."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "sub/closed": "a"})
    real = os.open

    def refusing(path: Any, *more: Any, **most: Any) -> int:
        if path == "closed":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more, **most)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(CorruptError, match="sub/closed: Permission denied"):
        await _hash(source)


async def test_a_folder_that_changed_since_it_was_looked_at_is_not_sent_whole(tmp_path: Path) -> None:
    """What is built and what it is labelled with are one: the tar ends with an error instead of its end."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "a": "a"})
    contexts = FolderContexts()
    await contexts.look(source)
    (tmp_path / "a").write_text("b")
    got = bytearray()

    async def read() -> None:
        async for chunk in contexts.tar(source):
            got.extend(chunk)

    with pytest.raises(MovedError, match="changed"):
        await read()
    assert not got.endswith(bytes(1024))
    await contexts.look(source)
    assert await _names(source)


async def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    """The tar's header has said its size by then: the sending fails."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "a": bytes(8 << 20)})

    async def read() -> None:
        async for _ in FolderContexts().tar(source):
            os.truncate(tmp_path / "a", 10)

    with pytest.raises(CorruptError, match="a: it changed while it was read"):
        await read()


async def test_a_quiet_look_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not changed since is known by size, time and inode; only what has is read again."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "a": "a", "b": "b"})
    read: list[str] = []
    real = module._content

    def counted(item: Item) -> Iterator[bytes]:
        read.append(item.name)
        return real(item)

    monkeypatch.setattr(module, "_content", counted)
    contexts = FolderContexts(lambda: 1 << 62)
    first = await contexts.look(source)
    assert sorted(read) == ["Dockerfile", "a", "b"]
    read.clear()
    assert await contexts.look(source) == first
    assert read == []
    (tmp_path / "b").write_text("c")
    assert await contexts.look(source) != first
    assert read == ["b"]


async def test_a_file_that_changed_just_now_is_read_again(tmp_path: Path) -> None:
    """Within one tick of the file system's clock a second change leaves no mark, so what is that new is not remembered."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "a": "a"})
    contexts = FolderContexts()
    await contexts.look(source)
    assert not contexts._known[source.context]


async def test_a_sending_that_is_given_up_leaves_nothing_open(tmp_path: Path) -> None:
    """Files and folders are closed when an engine is left in the middle, cancelled or not."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, "d/a": bytes(8 << 20)})
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - their number is all
    chunks = FolderContexts().tar(source)
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined] # an async generator
    sending = asyncio.create_task(_tar(source))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - the same


IGNORES = [
    "*.md\n!README.md\n",
    "docs\n!docs/keep\n",
    "# comment\n\n  logs/  \n/top\n",
    "**/*.tmp\n*/inner\n",
    "*\n!docs\ndocs/deep\n",
    "a?c\n[x-z]*\n\\!odd\n",
    "Dockerfile\n.dockerignore\n",
    "*\n!docs/keep\n!a*\n",
    "docs/**\n",
    "**\n!docs/deep/*.md\n!docs/deep\n",
]


@pytest.mark.parametrize("ignore", IGNORES)
async def test_an_image_has_what_docker_build_gives_it(engine: EngineServer, tmp_path: Path, ignore: str) -> None:
    """`COPY . /` of our tar makes the same files as `docker build` does of the folder, by docker's own reading of .dockerignore."""
    files = ["README.md", "other.md", "docs/keep", "docs/x.tmp", "docs/deep/a.md", "docs/deep/b", "logs/l", "top", "sub/top", "abc", "adc"]
    files += ["a/inner/f", "xylo", "!odd", "z", "deep.tmp"]
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, ".dockerignore": ignore, **dict.fromkeys(files, "content")})
    engine.docker("build", "-q", "-t", "by-docker:1", str(tmp_path))
    host = DockerHost("local", engine.url)
    try:
        await host.build(BuildRequest("by-us:1", source), FolderContexts().tar(source), lambda _: None)
    finally:
        await host.close()
    always = {"Dockerfile", ".dockerignore"}  # The legacy builder takes them out again behind the sending, BuildKit does not.
    assert _files(engine, "by-us:1") - always == _files(engine, "by-docker:1") - always


def _files(engine: EngineServer, image: str) -> set[str]:
    with engine.client() as client:
        container = client.containers.create(image, "nothing")
        raw = b"".join(container.export())
        container.remove()
    made = {"dev", "etc", "proc", "sys", ".dockerenv"}
    return {info.name for info in tarfile.open(fileobj=io.BytesIO(raw)) if info.isfile() and info.name.partition("/")[0] not in made}


async def test_errors_are_of_the_ports_kind(tmp_path: Path) -> None:
    """Whoever asks needs to catch RemoteError only, but for a folder that moved."""
    with pytest.raises(RemoteError):
        await _tar(BuildSource(str(tmp_path), "local"))


COUNTS = {"a": True, "new/one": True, "x.log": False, "logs/deep/x": False, "logs/keep": True, "Dockerfile": True, ".dockerignore": True, ".": True}


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
async def test_which_changes_count(tmp_path: Path, name: str, counts: bool) -> None:  # noqa: FBT001 - pytest gives it
    """What .dockerignore leaves out plays no part, though it changes all the time; itself and the Dockerfile do, even if it names them."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, ".dockerignore": "**/*.log\nlogs\n!logs/keep\nDockerfile\n.dockerignore\n"})
    assert await FolderContexts().concerned(source, [name]) is counts
    assert await FolderContexts().concerned(source, ["x.log", name]) is counts


async def test_in_doubt_a_change_counts(tmp_path: Path) -> None:
    """An ignore file that Docker would refuse leaves nothing out; the look says what is wrong with it."""
    source = source_of(tmp_path, {"Dockerfile": DOCKERFILE, ".dockerignore": "[\n"})
    assert await FolderContexts().concerned(source, ["a"])
    assert await FolderContexts().concerned(BuildSource(str(tmp_path / "none"), "local"), ["a"])
