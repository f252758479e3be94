"""`wharf --log json run`: each line is a record for a machine, and no password and no token is in any."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wharf import running
from tests.conftest import StartRegistry
from tests.registry.conftest import Certificate, certificate
from tests.registry.test_auth import HASHED, PASSWORD
from tests.registry.tokens import TokenServer
from tests.support.hostile import hostile
from tests.support.scene import Scene, publish
from tests.support.servers import EngineServer

__all__ = ["certificate"]


def rows(lines: list[str]) -> list[dict[str, Any]]:
    """Every line of standard error, which must be JSON."""
    return [json.loads(line) for line in lines]


async def test_json_lines_without_secrets(
    short_path: Path, start_registry: StartRegistry, engine: EngineServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With -v, with a registry that wants a password, an upstream that wants tokens, and then with a password that is wrong."""
    monkeypatch.setenv("WHARF_LOG", "json")
    (short_path / "htpasswd").write_text(f"wharf:{HASHED}\n")
    (short_path / "user").write_text("wharf")
    secret = short_path / "password"
    secret.write_text(PASSWORD)
    registry = start_registry({"auth": {"htpasswd": {"realm": "wharf test", "path": str(short_path / "htpasswd")}}})
    tokens = TokenServer(certificate)
    given: list[str] = []
    fresh = tokens.token

    def noted(scopes: list[str]) -> str:
        given.append(fresh(scopes))
        return given[-1]

    monkeypatch.setattr(tokens, "token", noted)
    async with hostile(tokens) as server:
        upstream = start_registry(tokens.auth(f"{server.url}/token"))
        await publish(upstream, "library/nginx", "1")
        scene = Scene(short_path, registry, upstream, engine)
        scene.images = [{"name": "docker.io/library/nginx:1"}]
        scene.spec = {"interval": "1s", "registry": {"url": registry.url, "usernameFile": "user", "passwordFile": "password"}}
        lines: list[str] = []
        for word, awaited in ((PASSWORD, "✓ + copy docker.io/library/nginx:1"), ("wrong secret", '"error": ')):
            secret.write_text(word)
            with running(scene.file, state=scene.state, flags=["-v"]) as controller:
                await asyncio.to_thread(controller.wait_for, awaited)
                assert await asyncio.to_thread(controller.end) == 0
            lines += controller.lines
    said = rows(lines)
    done = next(row for row in said if row["message"].startswith("✓"))
    assert {"image": "docker.io/library/nginx:1", "action": "Copy", "reason": "Missing", "level": "info"}.items() <= done.items()
    assert done["bytes"] > 8192
    assert isinstance(done["seconds"], float)
    assert given
    for hidden in (PASSWORD, "wrong secret", *given, *(token.rsplit(".", 1)[1] for token in given)):
        assert hidden not in "\n".join(lines)


def test_the_last_word_is_a_record_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be used ends the command with one JSON line, which holds every problem."""
    monkeypatch.setenv("WHARF_LOG", "json")
    scene.file.write_text("apiVersion: [")
    with running(scene.folder / "desired-state.yaml", state=scene.state) as controller:
        controller.wait_for('"error": ')
        assert controller.process.wait() == 1
    (row,) = rows(controller.lines)
    assert (row["level"], "desired-state.yaml:" in row["message"]) == ("error", True)
