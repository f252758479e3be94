"""What comes is not what was asked for: other servers' pages, lies, and too much.

The server is made up, as no real registry can be brought to do this. Each error names what was tried, and none of these is ever
taken for "it is not there" (law 2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from controller.domain.errors import CorruptError, DeniedError, NotFoundError, RefusedError
from controller.domain.oci import MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, digest_of
from controller.registry.client import RegistryClient
from tests.registry.conftest import MakeClient
from tests.registry.images import image, index, read
from tests.support.builders import sha
from tests.support.hostile import Asked, Steps, Then, hostile, page, reply, said

RAW = index([]).raw


def manifest(raw: bytes = RAW, media_type: str = OCI_INDEX, **more: str | None) -> bytes:
    """A manifest as a registry sends it."""
    return reply(200, raw, **{"Content_Type": media_type, "Docker_Content_Digest": digest_of(raw), **more})


def until_closed(first: bytes) -> Iterator[bytes]:
    """An answer whose body never ends."""
    return itertools.chain([first], itertools.repeat(bytes(1 << 16)))


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_page_for_people(client: MakeClient, status: int) -> None:
    """HTML, with whatever status, is no registry's answer to anything."""
    async with hostile(lambda _: page(status)) as server:
        there = client(server.url)
        acts = {
            "GET /v2/": there.ping(),
            "(HEAD|GET) /v2/a/manifests/1": there.resolve("a", "1"),
            "GET /v2/a/manifests/1": there.manifest("a", "1"),
            "GET /v2/a/manifests/2": there.delete_tag("a", "2"),
        }
        for tried, act in acts.items():
            with pytest.raises(RefusedError, match=tried.replace(" ", f" {server.url}") + f": {status} ") as caught:
                await act
            assert caught.value.retryable is (status == 500)
        assert not server.of("PUT")
        assert not server.of("DELETE")


async def test_a_page_behind_a_front_that_adds_the_mark(client: MakeClient) -> None:
    """A proxy that adds the registry's header to its own error page, as nginx recipes do, is still no registry."""
    marked = page(404).replace(b"\r\n", b"\r\nDocker-Distribution-Api-Version: registry/2.0\r\n", 1)
    async with hostile(lambda _: marked) as server:
        for act in (client(server.url).resolve("a", "1"), client(server.url).has_blob("a", sha("x"))):
            with pytest.raises(RefusedError, match="404"):
                await act


@pytest.mark.parametrize("body", ["", "404 page not found", '{"detail": "Not Found"}', '{"errors": [{"code": "ROUTE_UNKNOWN"}]}', '{"errors": {}}'])
async def test_a_404_without_a_registrys_marks(client: MakeClient, body: str) -> None:
    """A 404 counts as absence only when it says so in a registry's words; a HEAD's, which has none, is asked again by GET (law 2)."""
    async with hostile(lambda _: reply(404, body, Content_Type="application/json")) as server:
        there = client(server.url)
        for act in (there.resolve("a", "1"), there.manifest("a", "1"), there.has_blob("a", sha("x")), there.tags("a"), read(there, "a", sha("x"))):
            with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/a/.*: 404 ") as caught:
                await act
            assert not isinstance(caught.value, NotFoundError)


async def test_a_404_that_only_get_explains(client: MakeClient) -> None:
    """Registries that mark no HEAD are understood by their GET: there is the code, or the thing itself."""

    def script(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return reply(404, Content_Type="application/json")
        if asked.path.endswith("/there"):
            return manifest()
        return said(404, "BLOB_UNKNOWN" if "blobs" in asked.path else "MANIFEST_UNKNOWN")

    async with hostile(script) as server:
        there = client(server.url)
        with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
            await there.resolve("a", "1")
        assert not await there.has_blob("a", sha("x"))
        assert await there.resolve("a", "there") == Descriptor(OCI_INDEX, digest_of(RAW), len(RAW))


async def test_a_head_that_does_not_say_the_digest(client: MakeClient) -> None:
    """Where HEAD names no digest, GET tells it by the bytes; a type's parameters are not its name."""
    async with hostile(lambda _: manifest(RAW, f"{OCI_INDEX}; charset=utf-8", Docker_Content_Digest="")) as server:
        assert await client(server.url).resolve("a", "1") == Descriptor(OCI_INDEX, digest_of(RAW), len(RAW))
    async with hostile(lambda _: manifest(RAW, f"{OCI_INDEX}; charset=utf-8")) as server:
        assert await client(server.url).resolve("a", "1") == Descriptor(OCI_INDEX, digest_of(RAW), len(RAW))


@pytest.mark.parametrize(
    ("answer", "identifier", "words"),
    [
        (manifest(), sha("other"), f"with the digest {digest_of(RAW)}, not {sha('other')}"),
        (manifest(Docker_Content_Digest=sha("other")), sha("other"), f"not {sha('other')}"),
        (manifest(Docker_Content_Digest=sha("other")), "1", f"not {sha('other')}"),
        (manifest(b"{"), "1", "not JSON"),
        (manifest(b"[" * 100_000), "1", "not JSON"),
        (manifest(b"[]"), "1", "JSON list, not an object"),
        (manifest(b"{}"), "1", "manifests is missing"),
        (manifest(b'{"mediaType": ["x"], "manifests": []}'), "1", "media type"),
        (manifest(b'{"config": {"digest": "x", "size": -1}, "layers": []}', OCI_MANIFEST), "1", "config lacks a digest"),
        (manifest(b'{"schemaVersion": 1, "fsLayers": []}', "application/vnd.docker.distribution.manifest.v1+prettyjws"), "1", "v1.prettyjws"),
    ],
    ids=["digest", "digest and header", "header", "no JSON", "deep", "list", "empty", "type", "size", "schema 1"],
)
async def test_bytes_that_are_not_the_manifest(client: MakeClient, answer: bytes, identifier: str, words: str) -> None:
    """What is not the bytes of its digest, or no manifest, is CorruptError, and says which manifest of which registry."""
    async with hostile(lambda _: answer) as server:
        with pytest.raises(CorruptError, match=f"GET {server.url}/v2/a/manifests/{identifier}: .*{words}") as caught:
            await client(server.url).manifest("a", identifier)
        assert not caught.value.retryable


async def test_a_head_that_answers_for_another_manifest(client: MakeClient) -> None:
    """By digest, a HEAD that names another digest is CorruptError."""
    async with hostile(lambda _: manifest()) as server:
        with pytest.raises(CorruptError, match=f"HEAD .*/{sha('other')}: it is {digest_of(RAW)}"):
            await client(server.url).resolve("a", sha("other"))


async def test_a_registry_that_changes_manifests(client: MakeClient) -> None:
    """A registry that calls what we put by another digest has changed it: CorruptError, not success (law 5)."""
    made, _ = image("word", OCI_MANIFEST)
    async with hostile(lambda _: reply(201, Docker_Content_Digest=sha("other"))) as server:
        with pytest.raises(CorruptError, match=f"PUT {server.url}/v2/a/manifests/1: .*{sha('other')}, not {made.digest}"):
            await client(server.url).put_manifest("a", "1", made)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ask", [RegistryClient.manifest, RegistryClient.resolve])
@pytest.mark.parametrize("length", [str(MAX_MANIFEST + 1), "9" * 18, None], ids=["just over", "huge", "not said"])
async def test_a_manifest_that_is_too_large(client: MakeClient, ask: Callable[..., object], length: str | None) -> None:
    """A manifest over 4 MiB is CorruptError and not read on, whether its length was said or not (law 6)."""
    head = reply(200, Content_Type=OCI_INDEX, Content_Length=length)

    def script(asked: Asked) -> Steps:
        if asked.method == "HEAD":
            return [head]
        return [head, Then.STALL] if length else until_closed(head)  # A length that was said is enough: nothing needs to come.

    async with hostile(script) as server:
        with pytest.raises(CorruptError, match=rf"GET {server.url}/v2/a/manifests/1: a body of more than 4 MiB"):
            await ask(client(server.url), "a", "1")  # type: ignore[misc]
    assert server.sent < 4 * MAX_MANIFEST  # What the sockets hold comes on top of what is read.


async def test_an_error_that_never_ends(client: MakeClient) -> None:
    """Of an error's body no more is read than is shown."""
    async with hostile(lambda _: until_closed(reply(418, Content_Length=None))) as server:
        with pytest.raises(RefusedError, match="418"):
            await client(server.url).ping()
    assert server.sent < 4 * MAX_MANIFEST


async def test_words_that_are_not_fit_for_people(client: MakeClient) -> None:
    """What another side says is one short line without control characters, and a signed URL in it loses its signature (law 7)."""
    words = "\x1b[31mred\x07\r\nERROR forged \u202e line http://user:pw@store.example/x?X-Signature=s3cret " + "x" * 1000
    async with hostile(lambda _: said(409, "DENIED\n", words)) as server:
        with pytest.raises(RefusedError) as caught:
            await client(server.url).manifest("a", "1")
        text = str(caught.value)
        assert text.startswith(f"GET {server.url}/v2/a/manifests/1: 409 DENIED : [31mred ERROR forged line http://store.example/x xxx")
        assert text.isprintable()
        assert len(text) < 400


@pytest.mark.parametrize("status", [401, 403])
async def test_denied(client: MakeClient, status: int) -> None:
    """A 401 without a challenge and a 403 are DeniedError after one request, with what to do."""
    async with hostile(lambda _: said(status, "DENIED", "no")) as server:
        with pytest.raises(DeniedError, match=rf"GET {server.url}/v2/a/manifests/1: {status} DENIED: no .*docker login"):
            await client(server.url).manifest("a", "1")
        assert len(server.asked) == 1
