"""Builds: what the engine is asked, what a failure says, and that a build can be ended at any moment."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.desired import BuildSource
from controller.domain.errors import RefusedError, RemoteError, UnreachableError
from controller.domain.ports.hosts import BuildRequest
from controller.hosts.building import BuildOutput, printable
from controller.hosts.buildkit import Log, Vertex, decoded
from controller.hosts.docker_engine import DockerHost
from controller.registry.credentials import Login
from controller.sources.contexts import FolderContexts
from tests.support.folders import sleeping, source_of, with_shell
from tests.support.hostile import Asked, Then, hostile, reply
from tests.support.servers import EngineServer

TAG = "127.0.0.1:5000/cyroid/kali:1"


@pytest.fixture(scope="module")
def legacy_engine() -> Iterator[EngineServer]:
    """A classic engine whose administrator has switched BuildKit off."""
    home = Path(tempfile.mkdtemp(prefix="wharf-"))
    server = EngineServer(home / "legacy", features={"buildkit": False}).start()
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["buildkit", "legacy"])
def running_engine(request: pytest.FixtureRequest) -> EngineServer:
    """An engine on which RUN works, by each builder."""
    found: EngineServer = request.getfixturevalue("engine" if request.param == "buildkit" else "legacy_engine")
    return found


async def _built(engine: EngineServer, source: BuildSource, *, tag: str = TAG, labels: tuple[tuple[str, str], ...] = ()) -> str:
    host = DockerHost("local", engine.url)
    try:
        return await host.build(BuildRequest(tag, source, labels), FolderContexts().tar(source), lambda _: None)
    finally:
        await host.close()


async def test_a_failed_step_is_told_with_the_end_of_its_output(running_engine: EngineServer, tmp_path: Path) -> None:
    """The error names the step and shows its last lines, at most twenty, without what would play tricks on a terminal."""
    with_shell(tmp_path)
    steps = "FROM scratch\nCOPY shell /\nRUN echo before\nRUN seq 100; printf '\\033[31mred\\033[0m\\a \\342\\200\\256end\\n'; exit 7\n"
    with pytest.raises(RefusedError) as failed:
        await _built(running_engine, source_of(tmp_path, {"Dockerfile": steps}))
    first, *lines = str(failed.value).split("\n")
    assert first.startswith(f"building {TAG} on local: ")
    assert "RUN seq 100" in first
    assert "7" in first
    assert first.endswith("its output ends with:")
    assert lines == [*(f"  {number}" for number in range(82, 101)), "  red end"]


async def test_the_engines_own_words_for_a_missing_file(either_engine: EngineServer, tmp_path: Path) -> None:
    """A step that has no output is told too."""
    with pytest.raises(RemoteError, match=r"building 127\.0\.0\.1:5000/cyroid/kali:1 on local: .*nothing"):
        await _built(either_engine, source_of(tmp_path, {"Dockerfile": "FROM scratch\nCOPY nothing /\n"}))


async def test_no_dockerfile_that_can_be_read(either_engine: EngineServer, tmp_path: Path) -> None:
    """Nonsense in a Dockerfile is the engine's to refuse."""
    with pytest.raises(RemoteError, match="building"):
        await _built(either_engine, source_of(tmp_path, {"Dockerfile": "NONSENSE\n"}))
    host = DockerHost("local", either_engine.url)
    assert (await host.look()).images == ()
    await host.close()


async def test_what_the_file_says_reaches_the_engine(either_engine: EngineServer, tmp_path: Path) -> None:
    """Another Dockerfile, the stage, the arguments and the labels; and the image has no other tag."""
    stages = 'FROM scratch AS one\nARG WORD\nCOPY a /\nLABEL said="$WORD"\nFROM one AS two\nLABEL two=yes\n'
    source = source_of(tmp_path, {"build/other.dockerfile": stages, "a": "a"}, dockerfile="build/other.dockerfile", target="one")
    source = BuildSource(source.context, "local", source.dockerfile, (("WORD", "a b"),), "one")
    await _built(either_engine, source, labels=(("mine", "yes"),))
    host = DockerHost("local", either_engine.url)
    found = await host.inspect(TAG)
    assert found.labels == (("mine", "yes"), ("said", "a b"))
    assert found.tags == (TAG,)
    await host.close()


async def test_the_platform_is_the_one_that_was_asked_for(engine: EngineServer, tmp_path: Path) -> None:
    """Nothing runs in such a build, so any platform will do."""
    source = source_of(tmp_path, {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"}, platform="linux/arm64")
    await _built(engine, source)
    with engine.client() as client:
        assert client.images.get(TAG).attrs["Architecture"] == "arm64"


async def test_a_large_folder_goes_out_as_it_is_read(either_engine: EngineServer, tmp_path: Path) -> None:
    """Never more than a few chunks are read ahead of what the engine has taken."""
    source = source_of(tmp_path, {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": bytes(48 << 20)})
    ahead, furthest = 0, 0

    async def watched() -> AsyncIterator[bytes]:
        nonlocal ahead, furthest
        async for chunk in FolderContexts().tar(source):
            ahead += len(chunk)
            furthest = max(furthest, ahead)
            yield chunk

    def advance(count: int) -> None:
        nonlocal ahead
        ahead -= count

    host = DockerHost("local", either_engine.url)
    await host.build(BuildRequest(TAG, source), watched(), advance)
    assert furthest < 8 << 20
    await host.close()


async def test_cancelling_ends_the_engines_build(running_engine: EngineServer, tmp_path: Path) -> None:
    """When the cancelling has ended, so has the thread; the engine stops the step, and no tag is made."""
    word = str(random.randrange(10**6, 10**9))
    with_shell(tmp_path)
    source = source_of(tmp_path, {"Dockerfile": f"FROM scratch\nCOPY shell /\nRUN sleep {word}; true\n"})
    building = asyncio.create_task(_built(running_engine, source))
    async with asyncio.timeout(100):
        while not sleeping(word):
            assert not building.done(), building.result()
            await asyncio.sleep(0.05)
        building.cancel()
        await asyncio.wait({building})
        assert building.cancelled()
        while sleeping(word):  # noqa: ASYNC110 - another program's end has no event
            await asyncio.sleep(0.05)
    with running_engine.client() as client:
        assert not client.images.list(TAG)


def _engine(build: Callable[[Asked], bytes | Iterable[bytes | Then]], *, found: str = "") -> Callable[[Asked], bytes | Iterable[bytes | Then]]:
    """An engine whose answer to a build is made up."""

    def script(asked: Asked) -> bytes | Iterable[bytes | Then]:
        if asked.path.endswith("/version"):
            return reply(200, '{"ApiVersion": "1.41"}', Content_Type="application/json")
        if asked.path.endswith("/_ping"):
            return reply(200, "OK", Builder_Version="2")
        if asked.path.endswith("/json"):
            return reply(200, json.dumps({"Id": found}), Content_Type="application/json")
        return build(asked)

    return script


async def _nothing() -> AsyncIterator[bytes]:
    if not TAG:
        yield b""


async def test_an_engine_that_takes_nothing_is_left_at_once() -> None:
    """A build whose folder the engine does not read is cancelled, though the sending waits in the system."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    def advance(count: int) -> None:
        nonlocal sent
        sent += count

    async with hostile(_engine(lambda _: [Then.STALL]), reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        building = asyncio.create_task(host.build(BuildRequest(TAG, BuildSource("/none", "local")), endless(), advance))
        await server.stalled.wait()
        before = -1
        while sent > before:  # Until the buffers between the two are full, and the sending waits.
            before = sent
            await asyncio.sleep(0.3)
        building.cancel()
        done, _ = await asyncio.wait({building}, timeout=20)
        assert done
        assert building.cancelled()
        await host.close()


async def test_a_folder_that_gives_nothing_any_more_is_left_at_once() -> None:
    """A build is cancelled while it waits for the folder's next bytes; the folder is told."""
    waiting, told = asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield b""
        finally:
            told.set()

    async with hostile(_engine(lambda _: [Then.STALL]), reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        building = asyncio.create_task(host.build(BuildRequest(TAG, BuildSource("/none", "local")), stuck(), lambda _: None))
        await waiting.wait()
        await asyncio.sleep(0.1)  # Until the thread waits too.
        building.cancel()
        done, _ = await asyncio.wait({building}, timeout=20)
        assert done
        assert building.cancelled()
        await told.wait()
        await host.close()


async def test_a_stream_that_breaks_off_is_no_success() -> None:
    """An engine that goes away in the middle has built nothing."""
    line = b'{"stream": "Step 1/2 : FROM scratch"}\n'
    head = reply(200, Content_Length=None, Transfer_Encoding="chunked")
    async with hostile(_engine(lambda _: [head, b"%x\r\n%s\r\n" % (len(line), line), Then.CLOSE]), reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        with pytest.raises(UnreachableError, match="broke the stream off"):
            await host.build(BuildRequest(TAG, BuildSource("/none", "local")), _nothing(), lambda _: None)
        await host.close()


async def test_a_tag_that_means_something_else_afterwards_is_an_error() -> None:
    """The Id that the engine named must be the one that is read back."""
    line = '{"aux": {"ID": "sha256:built"}}\n'
    async with hostile(_engine(lambda _: reply(200, line), found="sha256:other"), reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        with pytest.raises(RefusedError, match=r"sha256:built.*sha256:other"):
            await host.build(BuildRequest(TAG, BuildSource("/none", "local")), _nothing(), lambda _: None)
        await host.close()


@pytest.mark.parametrize(("tag", "known"), [(TAG, {"127.0.0.1:5000": {"username": "me", "password": "word"}}), ("cyroid/kali:1", {})])
async def test_the_login_is_for_the_registry_alone(tag: str, known: dict[str, object]) -> None:
    """FROM may use the login of the registry that gets the result, under its own address; no other registry's name gets it."""
    asked: list[Asked] = []

    def build(request: Asked) -> bytes:
        asked.append(request)
        return reply(200, '{"aux": {"ID": "sha256:0"}}\n')

    async def login() -> Login:
        return Login("me", "word")

    async with hostile(_engine(build, found="sha256:0"), reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"), credentials=login)
        assert await host.build(BuildRequest(tag, BuildSource("/none", "local")), _nothing(), lambda _: None) == "sha256:0"
        await host.close()
    assert json.loads(base64.urlsafe_b64decode(asked[0].headers["x-registry-config"])) == known
    assert asked[0].query["version"] == ["2"]
    assert "pull" not in asked[0].query


@pytest.mark.parametrize(
    ("api", "headers", "version"),
    [
        ("1.51", {"Builder_Version": "2"}, "2"),
        ("1.51", {"Builder_Version": "1"}, "1"),
        ("1.41", {}, "2"),
        ("1.41", {"Ostype": "windows"}, "1"),
        ("1.38", {}, "1"),
    ],
)
async def test_buildkit_is_used_where_the_engine_has_it(api: str, headers: dict[str, str], version: str) -> None:
    """The engine's own word counts; one that says nothing is judged by its age."""

    def engine(asked: Asked) -> bytes:
        if asked.path.endswith("/version"):
            return reply(200, json.dumps({"ApiVersion": api}), Content_Type="application/json")
        return reply(200, "OK", **headers) if asked.path.endswith("/_ping") else reply(200, '{"Id": "sha256:0"}')

    async with hostile(engine, reads_bodies=False) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        await host.build(BuildRequest(TAG, BuildSource("/none", "local")), _nothing(), lambda _: None)
        await host.close()
        (asked,) = server.of("POST", "/build")
    assert asked.query["version"] == [version]


def _field(number: int, raw: bytes) -> bytes:
    """A field with bytes, as protobuf writes it."""
    size, length = bytearray(), len(raw)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + raw


def _trace(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode()


STEP = _field(1, _field(1, b"sha256:1") + _field(2, b"sha256:0") + _field(3, b"[1/2] RUN make") + bytes([4 << 3, 1]) + _field(7, b"exit code: 1"))
WROTE = _field(3, _field(1, b"sha256:1") + bytes([3 << 3, 2]) + _field(4, b"no rule\n" * 40))


def test_buildkits_records_are_understood() -> None:
    """Steps with their names and errors, outputs with their step; other fields are passed over."""
    skipped = _field(2, _field(1, b"layer")) + bytes([5 << 3 | 1]) + bytes(8) + bytes([6 << 3 | 5]) + bytes(4)
    found = decoded(_trace(STEP, skipped, WROTE))
    assert found == (Vertex("sha256:1", "[1/2] RUN make", "exit code: 1"), Log("sha256:1", b"no rule\n" * 40))


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=8))
def test_no_bytes_break_the_reading_of_records(noise: bytes, cut: int, at: int, put: bytes) -> None:
    """Cut off anywhere, changed anywhere, or noise: something or nothing is understood, and never an error."""
    whole = STEP + WROTE
    changed = whole[:at] + put + whole[at + len(put) :]
    for raw in (noise, whole[:cut], changed, noise + whole):
        output = BuildOutput()
        output.read({"id": "moby.buildkit.trace", "aux": base64.b64encode(raw).decode()})
        assert len(output.failure("failed").splitlines()) <= 21


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_no_record_breaks_it(said: object) -> None:
    """Whatever JSON an engine sends in the place of what was expected."""
    output = BuildOutput()
    for record in ({"id": "moby.buildkit.trace", "aux": said}, {"stream": said}, {"aux": said, "id": said}):
        output.read(record)
    assert output.failure("failed").startswith("failed") or "failed" in output.failure("failed")


@given(st.text())
def test_what_a_build_wrote_plays_no_tricks(text: str) -> None:
    """No escape, no control character, no turn of direction reaches a terminal."""
    assert not set(printable(text)) & {chr(number) for number in (*range(32), 0x7F, 0x9B, 0x202E, 0x2066, 0x2028)}


def test_the_step_that_failed_is_not_one_that_was_stopped_for_it() -> None:
    """Steps beside the failed one end with an error of their own, which is not the cause."""
    output = BuildOutput()
    stopped = _field(1, _field(1, b"sha256:2") + _field(3, b"[other] RUN sleep") + _field(7, b"context canceled"))
    for parts in ((STEP, WROTE), (stopped,)):
        output.read({"id": "moby.buildkit.trace", "aux": _trace(*parts)})
    first, *lines = output.failure("failed").split("\n")
    assert first.startswith("[1/2] RUN make: failed")
    assert lines == ["  no rule"] * 20
