"""`wharf range-config`: what a range, a host or a node is told, as it can be written to a file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from controller.domain.spec import API_VERSION
from tests.acceptance.wharf import wharf


def file_of(folder: Path, **spec: object) -> Path:
    """A Wharf that says this."""
    path = folder / "desired-state.yaml"
    said = {"registry": {"url": "http://127.0.0.1:5000"}, **spec}
    path.write_text(yaml.safe_dump({"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "default"}, "spec": said}))
    return path


RANGES = {"name": "ranges", "discover": {"on": "local", "label": "x"}, "registryAddress": "172.30.0.16:5001"}
LOCAL = {"name": "local", "engine": "env"}


def test_an_engine_by_the_address_that_ranges_have(tmp_path: Path) -> None:
    """Each file alone is a file that its reader understands; all of them say where they belong."""
    file = file_of(tmp_path, hosts=[LOCAL, RANGES], gateway={"listen": "127.0.0.1:5001"})
    daemon = wharf("range-config", "-f", file, "-o", "daemon.json", state=tmp_path)
    assert daemon.json == {"registry-mirrors": ["http://172.30.0.16:5001"], "insecure-registries": ["172.30.0.16:5001"]}
    hosts = wharf("range-config", "-f", file, "-o", "hosts.toml", state=tmp_path)
    assert tomllib.loads(hosts.out) == {"host": {"http://172.30.0.16:5001": {"capabilities": ["pull", "resolve"]}}}
    assert daemon.err == hosts.err == ""
    text = wharf("range-config", "-f", file, state=tmp_path).out
    assert daemon.out in text
    assert "/etc/docker/daemon.json" in text
    rows = {row["file"]: row for row in wharf("range-config", "-f", file, "-o", "json", state=tmp_path).json}
    assert rows["hosts.toml"]["path"].startswith("/etc/docker/certs.d/_default/hosts.toml")
    assert json.loads(rows["daemon.json"]["content"]) == daemon.json


def test_a_node_and_what_is_said_on_the_command_line(tmp_path: Path) -> None:
    """containerd reads one file; TLS needs no exception; no desired-state file is needed where the address is said."""
    node = wharf("range-config", "node", "--address", "wharf.example:5001", "--tls", "-o", "json", state=tmp_path, cwd=tmp_path).json
    assert [(row["file"], row["path"]) for row in node] == [("hosts.toml", "/etc/containerd/certs.d/_default/hosts.toml")]
    assert tomllib.loads(node[0]["content"])["host"].keys() == {"https://wharf.example:5001"}
    tls = wharf("range-config", "host", "--address", "wharf.example:5001", "--tls", "-o", "daemon.json", state=tmp_path, cwd=tmp_path)
    assert tls.json == {"registry-mirrors": ["https://wharf.example:5001"]}
    refused = wharf("range-config", "node", "--address", "wharf.example:5001", "-o", "daemon.json", state=tmp_path, cwd=tmp_path)
    assert (refused.code, "a node has no such file" in refused.err) == (1, True)
    assert wharf("range-config", "--address", "http://x:1/y", state=tmp_path, cwd=tmp_path).code == 1


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ({}, "http://127.0.0.1:5000"),
        ({"registry": {"url": "https://registry.example:443"}}, "https://registry.example:443"),
        ({"registry": {"url": "http://127.0.0.1:5000", "aliases": ["172.30.0.16:5000"]}}, "http://172.30.0.16:5000"),
        ({"gateway": {"listen": "127.0.0.1:5001"}}, "http://127.0.0.1:5001"),
        ({"gateway": {"listen": "0.0.0.0:5001", "pull": "Anyone", "push": "Anyone"}}, "http://127.0.0.1:5000"),
    ],
)
def test_the_address_that_the_file_says(tmp_path: Path, spec: dict[str, object], url: str) -> None:
    """The gateway's before the registry's; what nobody else can reach is said."""
    done = wharf("range-config", "-f", file_of(tmp_path, **spec), "-o", "daemon.json", state=tmp_path)
    assert done.json["registry-mirrors"] == [url]
    assert ("loopback" in done.err) is ("//127." in url)
