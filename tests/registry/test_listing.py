"""Listings: every page, to the end or not at all. The real registry shows pages; a made-up one shows those that no honest one gives."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from controller.domain.errors import CorruptError, NotFoundError, RefusedError
from controller.registry import client as client_module
from tests.conftest import StartRegistry
from tests.registry.conftest import MakeClient
from tests.registry.images import pushed
from tests.support.hostile import Asked, hostile, listed, page, reply
from tests.support.servers import RegistryServer


async def test_tags_of_a_repository(registry: RegistryServer, client: MakeClient) -> None:
    """Every tag is listed, several of one image too."""
    there = client(registry.url)
    manifest = await pushed(there, "a/b", "1", "word")
    for tag in ("1.0", "latest"):
        await there.put_manifest("a/b", tag, manifest)
    assert sorted(await there.tags("a/b")) == ["1", "1.0", "latest"]


async def test_tags_of_what_has_none(registry: RegistryServer, client: MakeClient) -> None:
    """A repository that never was, and one whose tags are all deleted (`tags: null`), have no tags; neither is an error."""
    there = client(registry.url)
    await pushed(there, "emptied", "1", "word")
    await there.delete_tag("emptied", "1")
    assert await there.tags("never-was") == []
    assert await there.tags("emptied") == []


async def test_catalog(registry: RegistryServer, client: MakeClient) -> None:
    """All repositories are listed; of an empty registry none."""
    there = client(registry.url)
    assert await there.catalog() == []
    for name in ("b", "a/c"):
        await pushed(there, name, "1", "word")
    assert sorted(await there.catalog()) == ["a/c", "b"]


async def test_catalog_of_several_pages(registry: RegistryServer, client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are followed to the last one, which may be full or not."""
    monkeypatch.setattr(client_module, "_PAGE", 2)
    there = client(registry.url)
    for number in range(5):
        await pushed(there, f"r{number}", "1", "word")
        assert await there.catalog() == [f"r{n}" for n in range(number + 1)]


async def test_catalog_of_a_registry_with_smaller_pages(start_registry: StartRegistry, client: MakeClient) -> None:
    """A registry whose catalog.maxentries is below our page refuses the number, and is asked without one."""
    there = client(start_registry(extra={"catalog": {"maxentries": 2}}).url)
    for number in range(5):
        await pushed(there, f"r{number}", "1", "word")
    assert await there.catalog() == [f"r{n}" for n in range(5)]


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/v2/a/tags/list", "//elsewhere.invalid/v2/a/tags/list", "https://127.0.0.1/v2/a/tags/list"])
async def test_a_next_page_elsewhere(client: MakeClient, link: str) -> None:
    """A list that goes on at another host, port or scheme is refused: whoever answers there does not speak for this registry."""
    async with hostile(lambda _: listed("tags", ["1"], link)) as server:
        with pytest.raises(RefusedError, match=rf"{server.url}/v2/a/tags/list: a next page at another address"):
            await client(server.url).tags("a")
        assert len(server.asked) == 1


@pytest.mark.parametrize("link", ["http://[::1", "file:///etc/passwd", "http://a\ud800b/"])
async def test_a_next_page_that_is_none(client: MakeClient, link: str) -> None:
    """A link that can't be followed is a refusal, not the end of the list."""
    async with hostile(lambda _: reply(200, '{"tags": []}', Link=f'<{link.encode(errors="replace").decode()}>; rel="next"')) as server:
        with pytest.raises(RefusedError, match="/v2/a/tags/list: "):
            await client(server.url).tags("a")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda asked: listed("repositories", ["a"], asked.target), "a next page that was there before"),
        (lambda asked: listed("repositories", [], f"/v2/_catalog?last={asked.target[-9:]}x"), "more than 7 pages"),
    ],
    ids=["circle", "no end"],
)
async def test_a_list_without_end(client: MakeClient, monkeypatch: pytest.MonkeyPatch, script: Callable[[Asked], bytes], words: str) -> None:
    """Pages that never end, in a circle or not, are refused, with nothing taken for the whole."""
    monkeypatch.setattr(client_module, "_MAX_PAGES", 7)
    async with hostile(script) as server:
        with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/_catalog: {words}"):
            await client(server.url).catalog()
        assert len(server.asked) <= 7


async def test_a_list_larger_than_memory(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages together have a limit: memory does not grow with what a registry says (law 6)."""
    monkeypatch.setattr(client_module, "_MAX_LISTING", 2 << 20)
    many = json.dumps({"tags": ["x" * 100] * 5000})

    def script(asked: Asked) -> bytes:
        return reply(200, many, Link=f'<{asked.target}x>; rel="next"')

    async with hostile(script) as server:
        with pytest.raises(CorruptError, match=r"/v2/a/tags/list.*: a body of more than"):
            await client(server.url).tags("a")
        assert len(server.asked) < 10


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '"tags"',
        "{}",
        '{"tags": "abc"}',
        '{"tags": {"a": 1}}',
        '{"tags": [1]}',
        '{"tags": 0}',
        "[" * 100_000,
        '{"tags": [' + "9" * 5000 + "]}",
    ],
    ids=lambda body: body[:12] or "nothing",
)
async def test_a_list_that_is_none(client: MakeClient, body: str) -> None:
    """What is no list of names is refused, never taken for an empty one (law 2)."""
    async with hostile(lambda _: reply(200, body, Content_Type="application/json")) as server:
        with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/a/tags/list: no JSON list of tags"):
            await client(server.url).tags("a")


@pytest.mark.parametrize("status", [200, 404])
async def test_a_page_for_people_is_no_list(client: MakeClient, status: int) -> None:
    """Another web server's page, found or not, says nothing of tags or repositories (law 2)."""
    async with hostile(lambda _: page(status)) as server:
        for ask in (client(server.url).catalog(), client(server.url).tags("a")):
            with pytest.raises(RefusedError, match="is no registry") as caught:
                await ask
            assert not isinstance(caught.value, NotFoundError)


async def test_names_that_no_url_can_hold(registry: RegistryServer, client: MakeClient) -> None:
    """A name out of a hostile list is refused where it is used, with an error of ours, and never leads to another path."""
    there = client(registry.url)
    for name in ("a\nb", "a\ud800"):
        with pytest.raises(RefusedError, match="no URL can be made of") as caught:
            await there.tags(name)
        assert "\n" not in str(caught.value)
    for tag in ("../../../v2/_catalog", "sha256:1", "x:y"):
        with pytest.raises(CorruptError, match="neither a tag nor a digest"):
            await there.manifest("a", tag)
    for digest in ("1", "sha256:../../x", "sha256:" + "A" * 64):
        with pytest.raises(CorruptError, match="is no digest"):
            await there.has_blob("a", digest)
    assert there.requests == 0
