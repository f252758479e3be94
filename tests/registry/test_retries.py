"""What is tried again, how often, and after which wait: busy registries that a script plays, as no real one is busy on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controller.domain.errors import RefusedError, RemoteError, UnreachableError
from controller.domain.oci import OCI_INDEX, OCI_MANIFEST
from controller.registry.manners import LONGEST_WAIT
from controller.registry.sender import TRIES
from tests.registry.conftest import MakeClient, Waits
from tests.registry.images import blob, chunks, image, index, read
from tests.support.builders import sha
from tests.support.hostile import Asked, Script, Steps, Then, hostile, reply, said
from tests.support.servers import RegistryServer

DATE = "Tue, 24 Nov 2026 12:00:00 GMT"


def first(*answers: bytes | Steps, then: bytes = reply(200, "{}")) -> Script:
    """These, one for each request, and from then on the last."""
    left = list(answers)
    return lambda _: left.pop(0) if left else then


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_later_is_tried_again(client: MakeClient, waits: Waits, status: int) -> None:
    """A status that speaks of now and not of the request is tried again, after a wait that grows."""
    async with hostile(first(said(status, "UNKNOWN"), said(status, "UNKNOWN"))) as server:
        await client(server.url).ping()
    assert waits == [0.2, 0.4]


async def test_there_is_an_end_to_trying(client: MakeClient, waits: Waits) -> None:
    """After TRIES the last answer comes out, marked as worth a later try."""
    async with hostile(lambda _: said(503, "UNAVAILABLE", "later")) as server:
        with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/: 503 UNAVAILABLE: later") as caught:
            await client(server.url).ping()
        assert caught.value.retryable
        assert (len(server.asked), len(waits)) == (TRIES, TRIES - 1)


@pytest.mark.parametrize("status", [400, 405, 409, 413, 416, 501])
async def test_what_stays_refused_is_not_tried_again(client: MakeClient, waits: Waits, status: int) -> None:
    """A status that speaks of the request is asked for once."""
    async with hostile(lambda _: said(status, "UNSUPPORTED")) as server:
        with pytest.raises(RefusedError, match=f"/v2/: {status} UNSUPPORTED") as caught:
            await client(server.url).ping()
        assert not caught.value.retryable
        assert len(server.asked) == 1
    assert not waits


@pytest.mark.parametrize(
    ("said_so", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 0.2),
        ({"Retry_After": "Tue, 24 Nov 2026 12:00:30 GMT", "Date": DATE}, 30.0),
        ({"Retry_After": "Tue, 24 Nov 2026 11:00:00 GMT", "Date": DATE}, 0.2),
        ({"Retry_After": "Tue, 24 Nov 2026 12:00:30 GMT"}, 0.2),
        ({"Retry_After": "Tue, 24 Nov 99999 12:00:30 GMT", "Date": DATE}, 0.2),
        ({"Retry_After": "soon", "Date": DATE}, 0.2),
        ({"Retry_After": "-5"}, 0.2),
    ],
)
async def test_who_asks_for_a_pause_gets_it(client: MakeClient, waits: Waits, said_so: dict[str, str], seconds: float) -> None:
    """Retry-After is kept to, in seconds or as a date by the other side's own clock; what can't be read is as if nothing was said."""
    async with hostile(first(reply(429, **said_so))) as server:
        await client(server.url).ping()
    assert waits == [seconds]


@pytest.mark.parametrize("pause", [str(int(LONGEST_WAIT) + 1), "9" * 400])
async def test_a_pause_that_is_too_long(client: MakeClient, waits: Waits, pause: str) -> None:
    """Who asks for more than LONGEST_WAIT is not waited for: the error says how long, for the next pass."""
    async with hostile(lambda _: reply(429, Retry_After=pause)) as server:
        with pytest.raises(RefusedError, match=r"429 Too Many Requests .*rate limit") as caught:
            await client(server.url).ping()
        assert (caught.value.retryable, caught.value.retry_after) == (True, float(pause))
        assert len(server.asked) == 1
    assert not waits


async def test_the_longest_pause_is_kept_to(client: MakeClient, waits: Waits) -> None:
    """LONGEST_WAIT itself is waited for."""
    async with hostile(first(reply(503, Retry_After=str(int(LONGEST_WAIT))))) as server:
        await client(server.url).ping()
    assert waits == [LONGEST_WAIT]


@pytest.mark.parametrize("steps", [[Then.CLOSE], [b"HTTP/1.1 nonsense\r\n\r\n", Then.CLOSE]], ids=["closed", "nonsense"])
async def test_a_connection_that_broke_is_made_again(client: MakeClient, steps: Steps) -> None:
    """Who hangs up once is asked again."""
    async with hostile(first(steps)) as server:
        await client(server.url).ping()


async def test_a_connection_that_was_closed_while_idle(registry: RegistryServer, client: MakeClient) -> None:
    """A registry that was restarted between two requests is asked over a new connection."""
    there = client(registry.url)
    await there.ping()
    registry.stop()
    registry.start()
    await there.ping()


async def test_a_read_blob_is_tried_until_it_begins(client: MakeClient) -> None:
    """Before the first byte of a blob a 500 is tried again; what was read already can't be unread."""
    async with hostile(first(said(500, "UNKNOWN"), then=reply(200, "whole"))) as server:
        assert await read(client(server.url), "a", sha("x")) == b"whole"
        assert len(server.asked) == 2


async def test_a_manifest_is_put_again_with_its_whole_body(client: MakeClient) -> None:
    """A write whose body is at hand is sent again, whole: writing the same manifest twice is writing it once."""
    made, _ = image("word", OCI_MANIFEST)
    async with hostile(first(said(500, "UNKNOWN"), [Then.CLOSE], then=reply(201))) as server:
        await client(server.url).put_manifest("a", "1", made)
        assert {each.body for each in server.asked} == {made.raw}
        assert len(server.asked) >= 3


BROKEN: list[Steps] = [[said(500, "UNKNOWN")], [said(429, "TOOMANYREQUESTS")], [Then.CLOSE], [said(404, "BLOB_UPLOAD_UNKNOWN")]]


@pytest.mark.parametrize("steps", BROKEN, ids=["500", "429", "closed", "lost"])
async def test_a_stream_is_sent_once(client: MakeClient, waits: Waits, steps: Steps) -> None:
    """A body that is a stream is gone when it was sent: its upload fails at once, worth a retry from the start, and is given up cleanly."""
    begun = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        yield b"streamed"

    def script(asked: Asked) -> Steps:
        if asked.method == "POST":
            return [reply(202, Location="/v2/a/blobs/uploads/1?_state=s3cret")]
        return steps if asked.method == "PUT" else [reply(204)]

    async with hostile(script) as server:
        with pytest.raises(RemoteError, match=rf"PUT {server.url}/v2/a/blobs/uploads/1: ") as caught:
            await client(server.url).write_blob("a", blob(b"streamed"), stream())
        assert caught.value.retryable
        assert isinstance(caught.value, RefusedError | UnreachableError)  # Not NotFoundError: an upload that is gone is no image that is not there.
        assert "s3cret" not in str(caught.value)
        assert (begun, len(server.of("POST")), len(server.of("PUT"))) == (1, 1, 1)
        assert [each.target for each in server.of("DELETE")] == ["/v2/a/blobs/uploads/1?_state=s3cret"]
    assert not waits


async def test_a_mount_that_became_an_upload(client: MakeClient) -> None:
    """The upload that a registry opens in place of a mount is given up: nobody is going to fill it."""
    async with hostile(lambda asked: reply(202, Location="/upload/1?_state=x") if asked.method == "POST" else reply(204)) as server:
        assert not await client(server.url).mount("a", sha("x"), "b")
        assert [(each.method, each.path) for each in server.asked] == [("POST", "/v2/a/blobs/uploads/"), ("DELETE", "/upload/1")]
        assert server.asked[0].query == {"mount": [sha("x")], "from": ["b"]}


async def test_an_upload_is_opened_again(client: MakeClient) -> None:
    """Before anything is streamed, opening the upload may be tried again."""
    posts = [said(503, "UNAVAILABLE")]

    def script(asked: Asked) -> bytes:
        if asked.method == "POST":
            return posts.pop() if posts else reply(202, Location="/upload/1")
        return reply(201)

    async with hostile(script) as server:
        await client(server.url).write_blob("a", blob(b"streamed"), chunks(b"streamed"))
        assert [(each.method, each.body) for each in server.asked] == [("POST", b""), ("POST", b""), ("PUT", b"streamed")]
        assert server.asked[-1].query == {"digest": [blob(b"streamed").digest]}


@pytest.mark.parametrize("location", [None, "http://[::1", "ftp://x/"])
async def test_an_upload_without_a_place(client: MakeClient, location: str | None) -> None:
    """An upload that does not say where to is a refusal that names it."""
    async with hostile(lambda _: reply(202, Location=location)) as server:
        with pytest.raises(RefusedError, match=rf"POST {server.url}/v2/a/blobs/uploads/: "):
            await client(server.url).write_blob("a", blob(b"x"), chunks(b"x"))
        assert not server.of("PUT")


async def test_what_is_asked_for(client: MakeClient) -> None:
    """HEAD and GET of a manifest accept the same four types, and no body is asked for compressed: digests would differ otherwise."""
    raw = index([]).raw
    async with hostile(lambda _: reply(200, raw, Content_Type=OCI_INDEX)) as server:
        await client(server.url).resolve("a", "1")
        head, get = server.asked
        assert (head.method, get.method) == ("HEAD", "GET")
        assert head.headers["accept"] == get.headers["accept"]
        assert all(f"application/vnd.{each}+json" in get.headers["accept"] for each in ("oci.image.index.v1", "oci.image.manifest.v1"))
        assert all(f"docker.distribution.{each}.v2+json" in get.headers["accept"] for each in ("manifest", "manifest.list"))
        assert get.headers["accept-encoding"] == "identity"


async def test_a_manifest_whose_blob_is_unknown_for_a_moment_is_written_again(client: MakeClient, waits: Waits) -> None:
    """2.8 rewrites a blob's link in place: a manifest that comes at that moment is refused, though the blob is there and no bytes are wrong."""
    errors = '{"errors": [{"code": "DIGEST_INVALID", "message": "no match"}, {"code": "MANIFEST_BLOB_UNKNOWN", "message": "unknown"}]}'
    manifest, _ = image("kali", OCI_MANIFEST)
    async with hostile(first(reply(400, errors, Content_Type="application/json"), then=reply(201))) as server:
        await client(server.url).put_manifest("cyroid/kali", "1", manifest)
        assert [asked.method for asked in server.asked] == ["PUT", "PUT"]
    assert waits == [0.2]
