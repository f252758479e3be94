"""Who may pull and who may push, as real clients meet it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import httpx
import pytest
from pydantic import ValidationError

from controller.domain.errors import UsageError
from controller.domain.spec import GatewaySpec, WharfSpec, Who
from controller.gateway.access import TOKEN_LIFE, Access, read_users
from tests.gateway.conftest import Quay
from tests.gateway.test_clients import id_of, publish_from
from tests.gateway.test_pulling import until
from tests.support.fault_proxy import fault_proxy
from tests.support.scene import publish
from tests.support.servers import EngineServer, RegistryServer

PASSWORD = "s3cret"


def users() -> dict[str, bytes]:
    """One, whose hash takes no time."""
    return {"operator": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4))}


@pytest.fixture
async def guarded(registry: RegistryServer, internet: RegistryServer) -> AsyncIterator[Quay]:
    """Anyone may pull, users may push. `seconds` of the tokens' clock can be set."""
    async with fault_proxy(internet.url) as upstream:
        found = Quay.before(registry, internet, upstream)
        found.access = Access(Who.ANYONE, Who.USERS, users(), b"key", lambda: found.now)
        async with found.open():
            yield found


@pytest.mark.engine
async def test_an_engine_pulls_without_and_pushes_with_a_login(guarded: Quay, engine: EngineServer) -> None:
    """`docker login` as ever; a wrong password is told at once, and a push without one is denied."""
    await publish_from(engine, guarded.registry.address, "cyroid/kali:1")
    await asyncio.to_thread(engine.docker, "pull", "-q", f"{guarded.address}/cyroid/kali:1")
    pulled = await id_of(engine, f"{guarded.address}/cyroid/kali:1")
    with pytest.raises(RuntimeError, match=r"denied|unauthorized|authentication required|no basic auth"):
        await publish_from(engine, guarded.address, "cyroid/new:1")
    login = ("login", "-u", "operator", "--password-stdin", guarded.address)
    with pytest.raises(RuntimeError, match="a wrong name or password"):
        await asyncio.to_thread(lambda: engine.docker(*login, stdin=b"wrong"))
    await asyncio.to_thread(lambda: engine.docker(*login, stdin=PASSWORD.encode()))
    await publish_from(engine, guarded.address, "cyroid/new:1")
    await asyncio.to_thread(engine.docker, "logout", guarded.address)
    assert pulled


async def test_tokens(guarded: Quay) -> None:
    """One without a name pulls and does not push; a forged one and an old one are none; Basic is taken as well."""
    published = await publish(guarded.registry, "cyroid/kali", "1")
    manifest, upload = "/v2/cyroid/kali/manifests/1", "/v2/cyroid/kali/blobs/uploads/"
    async with httpx.AsyncClient(base_url=f"http://{guarded.address}") as http:
        challenged = await http.post(upload)
        assert challenged.status_code == 401
        assert f'realm="http://{guarded.address}/v2/token"' in challenged.headers["WWW-Authenticate"]
        assert 'scope="repository:cyroid/kali:pull,push"' in challenged.headers["WWW-Authenticate"]
        nobody = (await http.get("/v2/token")).json()["token"]
        operator = (await http.get("/v2/token", auth=("operator", PASSWORD))).json()["token"]
        assert (await http.get("/v2/token", auth=("operator", "wrong"))).status_code == 401

        async def status(method: str, path: str, token: str) -> int:
            return (await http.request(method, path, headers={"Authorization": f"Bearer {token}", "Accept": published.media_type})).status_code

        assert [await status("GET", manifest, token) for token in (nobody, operator)] == [200, 200]
        assert [await status("POST", upload, token) for token in (nobody, operator)] == [401, 202]
        body, _, signature = operator.partition(".")
        for forged in (f"{nobody.partition('.')[0]}.{signature}", f"{body}.", body, "....", f"{body}.{signature[:-2]}"):
            assert await status("POST", upload, forged) == 401, forged
        assert (await http.post(upload, auth=("operator", PASSWORD))).status_code == 202
        guarded.now += TOKEN_LIFE + 1
        assert await status("POST", upload, operator) == 401


async def test_nothing_is_told_to_strangers(guarded: Quay) -> None:
    """Where only users pull, what is in the registry or comes through it is 401 for all others."""
    guarded.access._anybody = type(guarded.access._anybody)(pull=False, push=False)
    await publish(guarded.registry, "cyroid/kali", "1")
    await publish(guarded.internet, "library/nginx", "1")
    async with httpx.AsyncClient(base_url=f"http://{guarded.address}") as http:
        for path in ("cyroid/kali/manifests/1", "library/nginx/manifests/1", "cyroid/kali/tags/list", "_catalog", ""):
            assert (await http.get(f"/v2/{path}")).status_code == 401, path
    assert guarded.upstream.passed == []


async def test_what_is_private_is_for_users(guarded: Quay) -> None:
    """What came with an upstream's credentials: not by any way to ask, not mounted, not listed."""
    guarded.asks(private=frozenset({"docker.io"}))
    guarded.access._anybody = type(guarded.access._anybody)(pull=True, push=True)
    published = await publish(guarded.internet, "library/secret", "1")
    await publish(guarded.registry, "cyroid/kali", "1")
    blob = published.blobs[0].digest
    operator = ("operator", PASSWORD)
    paths = ("docker.io/library/secret/manifests/1", "library/secret/manifests/1?ns=docker.io", f"docker.io/library/secret/blobs/{blob}")
    private = (*paths, "docker.io/library/secret/tags/list", f"docker.io/library/secret/referrers/{published.digest}")
    async with httpx.AsyncClient(base_url=f"http://{guarded.address}", headers={"Accept": published.media_type}) as http:

        async def refused() -> None:
            for path in private:
                for method in ("GET", "HEAD"):
                    answer = await http.request(method, f"/v2/{path}")
                    assert (answer.status_code, "Bearer" in answer.headers["WWW-Authenticate"]) == (401, True), path
            assert (await http.get("/v2/library/secret/manifests/1")).status_code == 404

        await refused()
        assert guarded.upstream.passed == []
        assert (await http.get(f"/v2/{paths[0]}", auth=operator)).content == published.raw
        assert (await http.get(f"/v2/{paths[1]}", auth=operator)).content == published.raw
        assert (await http.get("/v2/library/secret/manifests/1", auth=operator)).content == published.raw
        await until(lambda: bool(guarded.kept))
        await refused()
        assert (await http.get("/v2/cyroid/kali/manifests/1")).status_code == 200
        mount = {"mount": blob, "from": "docker.io/library/secret"}
        assert (await http.post("/v2/cyroid/kali/blobs/uploads/", params=mount)).status_code == 401
        assert (await http.post("/v2/cyroid/kali/blobs/uploads/", params=mount, auth=operator)).status_code == 201
        listed = [(await http.get("/v2/_catalog", auth=who)).json()["repositories"] for who in (None, operator)]
        assert listed == [["cyroid/kali"], ["cyroid/kali", "docker.io/library/secret"]]


def test_an_htpasswd_file(tmp_path: Path) -> None:
    """As `htpasswd -B` writes it; another hash, a broken line or an empty file is an error with its place."""
    file = tmp_path / "htpasswd"
    file.write_text(f"# people\n\noperator:{users()['operator'].decode()}\n")
    assert set(read_users(file)) == {"operator"}
    for text, words in (("operator:$apr1$x$y\n", "htpasswd:1: expected"), ("nobody\n", "htpasswd:1: expected"), ("", "no user")):
        file.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_users(file)
    with pytest.raises(UsageError, match="No such file"):
        read_users(tmp_path / "missing")


def test_beyond_loopback_users_are_needed() -> None:
    """Unless the file says that anyone may."""
    assert (GatewaySpec().pull_by, GatewaySpec().push_by) == (Who.ANYONE, Who.ANYONE)
    with pytest.raises(ValidationError, match="htpasswdFile"):
        GatewaySpec.model_validate({"listen": "172.30.0.16:5000"})
    closed = GatewaySpec.model_validate({"listen": "172.30.0.16:5000", "htpasswdFile": "users", "pull": "Anyone"})
    assert (closed.pull_by, closed.push_by) == (Who.ANYONE, Who.USERS)
    assert GatewaySpec.model_validate({"listen": "0.0.0.0:5000", "pull": "Anyone", "push": "Anyone"}).push_by is Who.ANYONE
    private = {"registry": {"url": "http://127.0.0.1:5000"}, "upstreams": [{"domain": "docker.io", "private": True}], "gateway": {}}
    with pytest.raises(ValidationError, match=r"docker\.io is private"):
        WharfSpec.model_validate(private)
    assert WharfSpec.model_validate(private | {"gateway": {"htpasswdFile": "users"}}).upstreams[0].private
