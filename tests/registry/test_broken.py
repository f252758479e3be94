"""Connections that can't be had, break off, stall or never end, and redirects that lead astray.

The server is made up, as no real registry can be brought to do this. Each is an error that names what was tried, never half an answer.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from controller.domain.errors import RefusedError, RemoteError, UnreachableError
from controller.domain.oci import OCI_INDEX, Manifest, digest_of
from controller.registry import answers
from controller.registry.streams import received
from tests.registry.conftest import Certificate, MakeClient
from tests.registry.images import blob, chunks, index, read
from tests.support.builders import sha
from tests.support.hostile import Asked, Steps, Then, hostile, reply, said
from tests.support.servers import free_port

RAW = index([]).raw

CUT = [
    [reply(200, RAW[:10], Content_Type=OCI_INDEX, Content_Length=str(len(RAW))), Then.CLOSE],
    [reply(200, f"{len(RAW):x}\r\n".encode() + RAW[:10], Content_Type=OCI_INDEX, Content_Length=None, Transfer_Encoding="chunked"), Then.CLOSE],
    [reply(200, b"zz\r\n", Content_Type=OCI_INDEX, Content_Length=None, Transfer_Encoding="chunked"), Then.CLOSE],
    [Then.CLOSE],
    [b"HTTP/1.1 200 OK\r\nContent-", Then.CLOSE],
    [b"SSH-2.0-OpenSSH_9.2\r\n", Then.CLOSE],
    [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Then.CLOSE],
    [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", Then.CLOSE],
]


@pytest.mark.parametrize("steps", CUT, ids=["length", "chunks", "no chunks", "nothing", "half a header", "another protocol", "length", "header"])
async def test_a_connection_that_breaks_off(client: MakeClient, steps: Steps) -> None:
    """An answer that is not whole is UnreachableError, worth a retry, and never a manifest or a blob that is shorter."""
    async with hostile(lambda _: steps) as server:
        there = client(server.url)
        for tried, act in (("/v2/a/manifests/1", there.manifest("a", "1")), ("/v2/a/blobs/sha256:", read(there, "a", digest_of(RAW)))):
            with pytest.raises(UnreachableError, match=f"GET {server.url}{tried}") as caught:
                await act
            assert caught.value.retryable


@pytest.mark.parametrize("length", ["9", "1"])
async def test_a_body_of_another_length_than_was_said(length: str) -> None:
    """A blob's length is counted here too, whatever carries it: a shorter one that passes for whole would be an image lost."""
    with pytest.raises(UnreachableError, match=f"GET it: the body ended after 5 of {length} bytes"):
        async for _ in received(httpx.Response(200, headers={"Content-Length": length}, content=chunks(b"bytes")), "GET it"):
            pass


STALLED: list[Steps] = [[Then.STALL], [reply(200, RAW[:10], Content_Type=OCI_INDEX, Content_Length=str(len(RAW))), Then.STALL]]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("steps", STALLED, ids=["nothing", "halfway"])
async def test_an_answer_that_stalls(client: MakeClient, steps: Steps) -> None:
    """Who says nothing for the time of one read is UnreachableError, before the first byte and after it."""
    async with hostile(lambda _: steps) as server:
        there = client(server.url)
        for act in (there.manifest("a", "1"), read(there, "a", digest_of(RAW))):
            with pytest.raises(UnreachableError, match=f"GET {server.url}/v2/a/.*(?i:timeout)"):
                await act
    assert server.stalled.is_set()


async def test_an_answer_that_drips(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a byte now and then, for ever, is UnreachableError: an answer that is read whole has a time for the whole."""
    monkeypatch.setattr(answers, "WHOLE", 0.2)
    async with hostile(lambda _: [reply(200, RAW[:10], Content_Length="100"), Then.STALL]) as server:
        with pytest.raises(UnreachableError, match=f"GET {server.url}/v2/a/manifests/1 after 10 bytes: TimeoutError"):
            await client(server.url).manifest("a", "1")
    async with hostile(lambda _: [reply(409, "because", Content_Length="100"), Then.STALL]) as server:
        with pytest.raises(RefusedError, match=f"GET {server.url}/v2/a/manifests/1: 409 because"):
            await client(server.url).manifest("a", "1")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("act", ["blob", "manifest"])
async def test_an_upload_that_nobody_takes(client: MakeClient, act: str) -> None:
    """Who takes nothing of what we send is UnreachableError too: without a time-out for writes that would be for ever."""

    def script(asked: Asked) -> Steps:
        return [reply(202, Location="/v2/a/blobs/uploads/1?_state=s3cret")] if asked.method == "POST" else [Then.STALL]

    large = bytes(32 << 20)
    async with hostile(script, reads_bodies=False) as server:
        there = client(server.url)
        made = Manifest(large, OCI_INDEX, digest_of(large))  # Larger than any real one, as sockets swallow a real one whole.
        doing = there.write_blob("a", blob(large), chunks(large)) if act == "blob" else there.put_manifest("a", "1", made)
        with pytest.raises(UnreachableError, match=rf"PUT {server.url}/v2/a/.*: it took nothing of the body for 0\.2 s") as caught:
            await doing
        assert "s3cret" not in str(caught.value)


async def test_an_answer_before_the_end_of_an_upload(client: MakeClient) -> None:
    """A refusal that comes before all is sent is heard, and its words are what comes out."""

    def script(asked: Asked) -> Steps:
        if asked.method == "POST":
            return [reply(202, Location="/v2/a/blobs/uploads/1")]
        return [said(413, "SIZE_INVALID") if asked.method == "PUT" else reply(204), Then.STALL if asked.method == "PUT" else Then.CLOSE]

    large = bytes(32 << 20)
    async with hostile(script, reads_bodies=False) as server:
        with pytest.raises(RefusedError, match=rf"PUT {server.url}/v2/a/blobs/uploads/1: 413 SIZE_INVALID"):
            await client(server.url).write_blob("a", blob(large), chunks(large))
        assert len(server.of("DELETE", "/uploads/1")) == 1


async def test_nobody_listens(client: MakeClient) -> None:
    """A refused connection is UnreachableError with the address that was tried."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=rf"GET {url}/v2/: .*refused|GET {url}/v2/: Cannot connect"):
        await client(url).ping()


async def test_a_name_that_nobody_has(client: MakeClient) -> None:
    """A host without an address is UnreachableError with its name (RFC 6761: `.invalid` never resolves)."""
    with pytest.raises(UnreachableError, match=r"GET http://registry\.invalid:5000/v2/: "):
        await client("http://registry.invalid:5000").ping()


async def test_redirects_without_end(client: MakeClient) -> None:
    """Five redirects are followed and no more; the error names where it began."""
    async with hostile(lambda asked: reply(307, Location=f"{asked.path}x")) as server:
        with pytest.raises(RefusedError, match=rf"HEAD {server.url}/v2/a/manifests/1: more than 5 redirects"):
            await client(server.url).resolve("a", "1")
        assert len(server.asked) == 6


@pytest.mark.parametrize("location", ["http://[::1", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://\x01/", "javascript:0"])
async def test_redirects_to_nowhere(client: MakeClient, location: str) -> None:
    """A redirect to what is no HTTP URL is a refusal, not a crash."""
    async with hostile(lambda _: reply(307, Location=location)) as server:
        with pytest.raises((RefusedError, UnreachableError), match=rf"GET {server.url}/v2/a/manifests/1: "):
            await client(server.url).manifest("a", "1")
        assert {each.path for each in server.asked} == {"/v2/a/manifests/1"}


@pytest.mark.parametrize("status", [300, 304, 307])
async def test_redirects_that_do_not_say_where(client: MakeClient, status: int) -> None:
    """A 3xx without a Location is a refusal with its status, not a crash."""
    async with hostile(lambda _: reply(status)) as server:
        with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/a/manifests/1: {status}"):
            await client(server.url).manifest("a", "1")


async def test_writes_are_not_redirected(client: MakeClient) -> None:
    """What we send goes where we meant it to go: a redirect of a write is a refusal."""
    async with hostile(lambda asked: reply(307, Location="/elsewhere") if asked.path != "/elsewhere" else reply(201)) as server:
        with pytest.raises(RefusedError, match=r"PUT .*/v2/a/manifests/1: 307"):
            await client(server.url).put_manifest("a", "1", index([]))
        assert not server.of("PUT", "/elsewhere")


@pytest.mark.parametrize("act", ["read", "write", "list"])
async def test_from_https_to_http(client: MakeClient, certificate: Certificate, act: str) -> None:
    """What is asked for by https is neither fetched nor sent without it."""
    async with hostile(lambda _: reply(200, "spied")) as plain:

        def script(asked: Asked) -> bytes:
            if asked.method == "POST":
                return reply(202, Location=f"{plain.url}/v2/a/blobs/uploads/1")
            if "tags" in asked.path:
                return reply(200, '{"tags": []}', Link=f'<{plain.url}/v2/a/tags/list?last=x>; rel="next"')
            return reply(307, Location=f"{plain.url}/x")

        async with hostile(script, tls=certificate.server()) as server:
            there = client(server.url, ca_file=certificate.certificate)
            acts = {"read": read(there, "a", sha("x")), "write": there.write_blob("a", blob(b"x"), chunks(b"x")), "list": there.tags("a")}
            doing = acts.pop(act)
            for unused in acts.values():
                unused.close()
            with pytest.raises(RefusedError, match=rf"(GET|POST) {server.url}/v2/a/.*from https to http"):
                await doing
        assert not plain.asked


async def test_a_redirect_with_somebodys_login(client: MakeClient) -> None:
    """A login in a redirect's URL is neither used nor shown, and does not break the request."""
    async with hostile(lambda asked: reply(200, "x", X_Auth=asked.authorization)) as storage:
        location = storage.url.replace("http://", "http://user:s3cret@")
        async with hostile(lambda _: reply(307, Location=f"{location}/x?signature=s3cret")) as server:
            assert await read(client(server.url), "a", sha("x")) == b"x"
        assert storage.asked[0].authorization is None
        assert storage.asked[0].target == "/x?signature=s3cret"


SPOILT: list[Steps] = [[reply(403, "no")], [b"HTTP/1.1 nonsense\r\n\r\n"], [Then.CLOSE], [reply(200, "x", Content_Length="9"), Then.CLOSE]]


@pytest.mark.parametrize("steps", SPOILT, ids=["denied", "nonsense", "closed", "cut off"])
async def test_a_signed_url_that_fails(client: MakeClient, steps: Steps) -> None:
    """The signature of the URL that a redirect led to is in no error, whatever went wrong there (law 7)."""
    async with hostile(lambda _: steps) as storage, hostile(lambda _: reply(307, Location=f"{storage.url}/x?sig=s3cret")) as server:
        with pytest.raises(RemoteError, match=f"GET {storage.url}/x") as caught:
            await read(client(server.url), "a", sha("x"))
        assert "s3cret" not in str(caught.value)


async def test_cancelling_while_nobody_answers(client: MakeClient) -> None:
    """A hundred requests that are cancelled while the other side says nothing leave the client usable."""
    stall = True
    async with hostile(lambda _: [Then.STALL] if stall else [reply(200, "{}")]) as server:
        there = client(server.url)
        tasks = [asyncio.create_task(there.ping()) for _ in range(100)]
        await server.stalled.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stall = False
        await asyncio.gather(*(there.ping() for _ in range(100)))
