"""What the environment may decide about our requests, and what it may not. Proxies and trackers are made up: they only have to be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.domain.errors import UnreachableError
from controller.registry.credentials import Login
from tests.registry.conftest import MakeClient
from tests.support.hostile import Asked, hostile, reply


async def test_the_environments_proxy(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy is used, with its login, except for the hosts of no_proxy."""
    async with hostile(lambda _: reply(200, "{}")) as proxy, hostile(lambda _: reply(200, "{}")) as server:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://user:pw@"))
        await client("http://registry.invalid:5000").ping()
        assert proxy.asked[0].target == "http://registry.invalid:5000/v2/"
        assert proxy.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
        monkeypatch.setenv("no_proxy", "other.invalid,127.0.0.1")
        await client(server.url).ping()
        assert (len(proxy.asked), len(server.asked)) == (1, 1)


async def test_a_proxy_of_another_kind(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that can't be used is an error of ours, without its login; nothing goes past it."""
    monkeypatch.setenv("http_proxy", "socks5://user:s3cret@127.0.0.1:1")
    async with hostile(lambda _: reply(200, "{}")) as server:
        with pytest.raises(UnreachableError, match=rf"GET {server.url}/v2/: http_proxy") as caught:
            await client(server.url).ping()
        assert "s3cret" not in str(caught.value)
        assert not server.asked


async def test_a_netrc_is_not_ours(client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A login in .netrc was not given to us: it is not sent, and it does not get in the way of the one that was."""

    async def login() -> Login:
        return Login("somebody", "password")

    def script(asked: Asked) -> bytes:
        return reply(200, "{}") if asked.authorization else reply(401, WWW_Authenticate='Basic realm="x"')

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with hostile(script) as server:
        await client(server.url, credentials=login).ping()
        assert [each.authorization for each in server.asked] == [None, "Basic c29tZWJvZHk6cGFzc3dvcmQ="]


async def test_no_cookies(client: MakeClient) -> None:
    """A registry's cookies are not kept: they tie requests together, and some proxies pin a client by them."""
    async with hostile(lambda _: reply(200, "{}", Set_Cookie="session=1; Path=/")) as server:
        there = client(server.url)
        for _ in range(2):
            await there.ping()
        assert not [each for each in server.asked if "cookie" in each.headers]
