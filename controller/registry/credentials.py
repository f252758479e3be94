"""Credentials: from files, from docker's config.json, from its credential helpers. Read when they are needed, so that rotation works."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.domain.errors import DeniedError

_HELPER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password, or an identity token (docker's word for an OAuth2 refresh token). Never shown."""

    username: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")


Credentials = Callable[[], Awaitable[Login | None]]
"""Asked when a registry wants to know who we are; None means anonymous. Raises DeniedError when they can't be had."""


async def anonymous() -> Login | None:
    """Nobody."""
    return None


def from_files(username: Path, password: Path) -> Credentials:
    """Credentials in two files, read at each use."""

    async def login() -> Login | None:
        try:
            return await asyncio.to_thread(_from_files, username, password)
        except (OSError, UnicodeDecodeError) as error:
            raise DeniedError(f"reading {getattr(error, 'filename', None) or username}", _reason(error)) from None

    return login


def _from_files(username: Path, password: Path) -> Login:
    return Login(username.read_text().rstrip("\r\n"), password.read_text().rstrip("\r\n"))


def from_docker_config(domain: str, folder: Path | None = None) -> Credentials:
    """What `docker login` left for a domain: credHelpers, then auths, then credsStore."""
    path = (folder or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")) / "config.json"

    async def login() -> Login | None:
        config = await asyncio.to_thread(_config, path)
        keys = _keys(domain)
        helper = _first(_mapping(config, "credHelpers"), keys) or config.get("credsStore")
        if helper:
            found = await _ask_helper(str(helper), keys)
            if found is not None:
                return found
        auths = _mapping(config, "auths")
        # Some logins are for a path below a host (https://index.docker.io/v1/refresh-token), so what is named exactly comes first.
        return _stored(_first(auths, keys) or _first({_host(key): value for key, value in auths.items()}, keys), path)

    return login


def _config(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DeniedError(f"reading {path}", _reason(error), hint="mend or remove it") from None
    return said if isinstance(said, dict) else {}


def _mapping(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _first(mapping: dict[str, object], keys: list[str]) -> object:
    return next((mapping[key] for key in keys if mapping.get(key)), None)


def _keys(domain: str) -> list[str]:
    """The names under which docker keeps a domain's login."""
    return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"] if domain == "docker.io" else [domain, f"https://{domain}"]


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _stored(entry: object, path: Path) -> Login | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return Login(identity_token=str(entry["identitytoken"]))
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise DeniedError(f"reading {path}", "an `auth` that is not base64 of user:password", hint="run docker login again") from None
        return Login(username, password.rstrip("\x00"))
    if entry.get("username"):
        return Login(str(entry["username"]), str(entry.get("password", "")))
    return None


async def _ask_helper(helper: str, keys: list[str]) -> Login | None:
    """`docker-credential-HELPER get` (docker's credential-helper protocol): the key on its standard input, JSON on its output."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise DeniedError(f"asking the credential helper {helper!r}", "not a helper's name", hint="mend docker's config.json")
    for key in keys:
        said = await _run_helper(f"docker-credential-{helper}", key)
        if said is None:
            continue
        username, secret = str(said.get("Username", "")), str(said.get("Secret", ""))
        return Login(identity_token=secret) if username == "<token>" else Login(username, secret)
    return None


async def _run_helper(program: str, key: str) -> dict[str, Any] | None:
    """The helper's answer; None when it has nothing for the key."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "get", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise DeniedError(f"running {program}", _reason(error), hint="install it, or mend docker's config.json") from None
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            out, _ = await process.communicate(key.encode())
    except TimeoutError:
        raise DeniedError(f"running {program}", f"no answer within {_HELPER_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        return None  # By the protocol: "credentials not found in native keychain" and the like.
    try:
        said = json.loads(out)
    except ValueError:
        raise DeniedError(f"running {program}", "an answer that is not JSON") from None
    return said if isinstance(said, dict) else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"not readable as text or JSON ({type(error).__name__})"
