"""What a collection needs to know of a registry's configuration; and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.documents.registry_config import RegistryConfig, read_registry_config
from controller.domain.problems import DocumentsError

FOLDER = "storage: {filesystem: {rootdirectory: /srv/registry}"


def test_the_one_that_comes_along() -> None:
    """config/registry.yml: a folder, no cache, and it takes writes."""
    file = Path("config/registry.yml")
    assert read_registry_config(file) == RegistryConfig(file, Path("/var/lib/docker-registry"), cached=False, takes_writes=True)


@pytest.mark.parametrize(
    ("text", "folder", "cached", "takes_writes"),
    [
        (FOLDER + ", cache: {blobdescriptor: inmemory}}", Path("/srv/registry"), True, True),
        (FOLDER + ", maintenance: {readonly: {enabled: true}}}", Path("/srv/registry"), False, False),
        (FOLDER + "}\nproxy: {remoteurl: 'https://registry-1.docker.io'}", Path("/srv/registry"), False, False),
        ("storage: {filesystem: {rootdirectory: data}}", None, False, True),
        ("storage: {s3: {bucket: images}}", None, False, True),
    ],
    ids=["cache", "read-only", "proxy", "a folder that depends on where it was started", "no folder"],
)
def test_what_it_says(tmp_path: Path, text: str, folder: Path | None, *, cached: bool, takes_writes: bool) -> None:
    """Each of what matters."""
    file = tmp_path / "registry.yml"
    file.write_text(f"version: 0.1\n{text}\n")
    assert read_registry_config(file) == RegistryConfig(file, folder, cached, takes_writes)


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "registry.yml:"), ("kind: Wharf", "field `storage`"), ("", "field `storage`"), ("- 1", "field `storage`")]
)
def test_what_is_none(tmp_path: Path, text: str, words: str) -> None:
    """The problem says its place and what was expected."""
    file = tmp_path / "registry.yml"
    file.write_text(text)
    with pytest.raises(DocumentsError, match=words):
        read_registry_config(file)


def test_no_file(tmp_path: Path) -> None:
    """As any other file."""
    with pytest.raises(DocumentsError, match="No such file"):
        read_registry_config(tmp_path / "registry.yml")
