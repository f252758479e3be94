"""Credentials out of files, of docker's config.json and of its credential helpers, as `docker login` and its kin leave them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.domain.errors import DeniedError
from controller.registry import credentials as credentials_module
from controller.registry.credentials import Login, anonymous, from_docker_config, from_files

HOST = "registry.example.org:5000"
Helper = Callable[[str, str], Path]


def auth(username: str, password: str) -> dict[str, str]:
    """An entry of `auths`."""
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def config(tmp_path: Path) -> Callable[[Any], Path]:
    """Write docker's config.json, and give its folder."""

    def write(said: Any) -> Path:
        (tmp_path / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))
        return tmp_path

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Put a credential helper on the PATH: a shell script that has what it was asked for in $key."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name: str, script: str) -> Path:
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\n[ "$*" = get ] || exit 9\nkey=$(cat)\necho "$key" >>"$0.asked"\n{script}\n')
        program.chmod(0o755)
        return program

    return write


def knows(key: str, username: str = "helped", secret: str = "pw") -> str:  # noqa: S107
    """A helper's script: it knows one key, and says of others what docker's protocol says."""
    answer = json.dumps({"ServerURL": key, "Username": username, "Secret": secret})
    return f"[ \"$key\" = '{key}' ] && echo '{answer}' || {{ echo credentials not found in native keychain; exit 1; }}"


def test_a_login_is_not_shown() -> None:
    """Neither print nor a traceback shows a login (law 7)."""
    login = Login("somebody", "s3cret", "t0ken")
    assert not re.search("somebody|s3cret|t0ken", f"{login} {login!r}")


async def test_nobody() -> None:
    """Anonymous is nobody."""
    assert await anonymous() is None


async def test_two_files(tmp_path: Path) -> None:
    """A newline at the end of a file is an editor's, spaces are the password's, and what is written later counts."""
    username, password = tmp_path / "username", tmp_path / "password"
    credentials = from_files(username, password)
    username.write_text("wharf\n")
    password.write_text(" pass word \r\n")
    assert await credentials() == Login("wharf", " pass word ")
    password.write_text("next")
    assert await credentials() == Login("wharf", "next")


async def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and one that is no text are DeniedError with the path and the reason, and without the content."""
    username, password = tmp_path / "username", tmp_path / "password"
    with pytest.raises(DeniedError, match=f"reading {username}: No such file"):
        await from_files(username, password)()
    username.write_text("wharf")
    with pytest.raises(DeniedError, match=f"reading {password}: No such file"):
        await from_files(username, password)()
    password.write_bytes(b"\xffs3cret")
    with pytest.raises(DeniedError, match="not readable as text") as caught:
        await from_files(username, password)()
    assert "s3cret" not in str(caught.value)


HUB = "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("domain", "said", "expected"),
    [
        (HOST, {"auths": {HOST: auth("a", "b:c")}}, Login("a", "b:c")),
        (HOST, {"auths": {f"https://{HOST}": auth("a", "b")}}, Login("a", "b")),
        (HOST, {"auths": {f"http://{HOST}/v2/": auth("a", "b")}}, Login("a", "b")),
        (HOST, {"auths": {HOST: {"username": "a", "password": "b"}}}, Login("a", "b")),
        (HOST, {"auths": {HOST: {"auth": "", "identitytoken": "t"}}}, Login(identity_token="t")),
        (HOST, {"auths": {HOST: {**auth("a", ""), "identitytoken": "t"}}}, Login(identity_token="t")),
        (HOST, {"auths": {"registry.example.org": auth("a", "b")}}, None),
        (HOST, {"auths": {HOST: {}}}, None),
        (HOST, {"auths": {HOST: "odd"}}, None),
        (HOST, {"auths": ["odd"]}, None),
        (HOST, {"auths": {f"{HOST}/team": auth("team", "t"), HOST: auth("a", "b"), f"{HOST}/other": auth("o", "o")}}, Login("a", "b")),
        (HOST, {}, None),
        (HOST, [], None),
        ("docker.io", {"auths": {HUB: auth("hub", "b")}}, Login("hub", "b")),
        (
            "docker.io",
            {"auths": {HUB: auth("hub", "b"), f"{HUB}refresh-token": auth("r", "r"), f"{HUB}access-token": auth("x", "x")}},
            Login("hub", "b"),
        ),
        ("docker.io", {"auths": {"index.docker.io": auth("hub", "b")}}, Login("hub", "b")),
        ("docker.io", {"auths": {"docker.io": auth("hub", "b")}}, Login("hub", "b")),
        ("quay.io", {"auths": {HUB: auth("hub", "b")}}, None),
    ],
)
async def test_auths(config: Callable[[Any], Path], domain: str, said: Any, expected: Login | None) -> None:
    """A domain's own login is found under each name that docker gives it, and nobody else's."""
    assert await from_docker_config(domain, config(said))() == expected


async def test_no_config_is_nobody(tmp_path: Path) -> None:
    """Without a config.json there is no login, and that is no error."""
    assert await from_docker_config(HOST, tmp_path)() is None


async def test_where_the_config_is(config: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_CONFIG names the folder, else ~/.docker is it; and it is read at each use."""
    folder = config({"auths": {HOST: auth("a", "b")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    credentials = from_docker_config(HOST)
    assert await credentials() == Login("a", "b")
    config({"auths": {HOST: auth("a", "rotated")}})
    assert await credentials() == Login("a", "rotated")
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".docker").mkdir()
    (folder / "config.json").rename(folder / ".docker" / "config.json")
    assert await from_docker_config(HOST)() == Login("a", "rotated")


@pytest.mark.parametrize(
    "said", ["{", "", '{"auths": {"registry.example.org:5000": {"auth": "s3cret!"}}}', '{"auths": {"registry.example.org:5000": {"auth": "/w=="}}}']
)
async def test_a_config_that_is_broken(config: Callable[[Any], Path], said: str) -> None:
    """A config.json that can't be read is an error that names it: silently being nobody would look like a wrong password."""
    folder = config(said)
    with pytest.raises(DeniedError, match=f"reading {folder}/config.json") as caught:
        await from_docker_config(HOST, folder)()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "said", "key"),
    [
        (HOST, {"credHelpers": {HOST: "own"}, "credsStore": "missing", "auths": {HOST: auth("stale", "stale")}}, HOST),
        (HOST, {"credsStore": "own"}, HOST),
        (HOST, {"credsStore": "own"}, f"https://{HOST}"),
        ("docker.io", {"credsStore": "own"}, HUB),
        ("docker.io", {"credHelpers": {"index.docker.io": "own"}}, HUB),
        ("docker.io", {"credHelpers": {HUB: "own"}}, HUB),
    ],
)
async def test_a_helper(config: Callable[[Any], Path], helper: Helper, domain: str, said: Any, key: str) -> None:
    """credHelpers come before credsStore, that before auths; the helper is asked by the names that docker uses."""
    helper("own", knows(key))
    assert await from_docker_config(domain, config(said))() == Login("helped", "pw")


async def test_a_helper_with_an_identity_token(config: Callable[[Any], Path], helper: Helper) -> None:
    """The user name `<token>` means that the secret is an identity token."""
    helper("own", knows(HOST, "<token>", "t0ken"))
    assert await from_docker_config(HOST, config({"credsStore": "own"}))() == Login(identity_token="t0ken")


async def test_a_helper_that_has_nothing(config: Callable[[Any], Path], helper: Helper) -> None:
    """A helper without a login for a domain is no error: what auths says counts, and else we are nobody."""
    program = helper("own", knows("another"))
    assert await from_docker_config(HOST, config({"credsStore": "own", "auths": {HOST: auth("a", "b")}}))() == Login("a", "b")
    assert await from_docker_config(HOST, config({"credsStore": "own"}))() is None
    assert program.with_name(f"{program.name}.asked").read_text().split() == [HOST, f"https://{HOST}"] * 2


@pytest.mark.parametrize(
    ("name", "script", "words"),
    [
        ("missing", None, "running docker-credential-missing: No such file.*install it"),
        ("own", "echo s3cret", "running docker-credential-own: an answer that is not JSON"),
        ("../own", None, "not a helper's name"),
        ("a b", None, "not a helper's name"),
    ],
)
async def test_a_helper_that_fails(config: Callable[[Any], Path], helper: Helper, name: str, script: str | None, words: str) -> None:
    """A helper that is missing or talks nonsense is DeniedError, and not a word of its output is shown."""
    if script is not None:
        helper(name, script)
    with pytest.raises(DeniedError, match=words) as caught:
        await from_docker_config(HOST, config({"credsStore": name}))()
    assert "s3cret" not in str(caught.value)


async def test_a_helper_that_hangs(config: Callable[[Any], Path], helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that waits for a person is ended, and the error says that it did not answer."""
    monkeypatch.setattr(credentials_module, "_HELPER_SECONDS", 0.2)
    helper("own", "exec sleep 1000")
    with pytest.raises(DeniedError, match=r"running docker-credential-own: no answer within 0\.2 s"):
        await from_docker_config(HOST, config({"credsStore": "own"}))()


async def test_a_helper_that_is_cancelled(config: Callable[[Any], Path], helper: Helper) -> None:
    """Who is cancelled while a helper runs leaves no process behind."""
    program = helper("own", 'echo $$ >"$0.pid"; exec sleep 1000')
    pid = program.with_name(f"{program.name}.pid")
    os.mkfifo(pid)
    task = asyncio.ensure_future(from_docker_config(HOST, config({"credsStore": "own"}))())
    running = int(await asyncio.to_thread(pid.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(running, 0)
