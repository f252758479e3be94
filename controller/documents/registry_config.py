"""The configuration of a Distribution registry, as far as a collection of its garbage depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.documents.text_files import read_text
from controller.documents.yaml_nodes import read_documents
from controller.domain.problems import DocumentsError, Place, Problem

_WHAT = "the configuration that the registry runs with"


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """`folder` is where it keeps its files, if that is a folder; `cached`: it remembers blobs beside the storage."""

    file: Path
    folder: Path | None
    cached: bool
    takes_writes: bool


def read_registry_config(file: Path) -> RegistryConfig:
    """Read it; DocumentsError when it is none."""
    text = read_text(file, _WHAT)
    if isinstance(text, Problem):
        raise DocumentsError([text])
    documents, problems = read_documents(text, str(file))
    if problems:
        raise DocumentsError(problems)
    said = documents[0].value if len(documents) == 1 else None
    storage = said.get("storage") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(storage, dict):
        raise DocumentsError([Problem(Place(str(file), 1, 1, ""), "no mapping with a field `storage`", _WHAT)])
    root = _at(storage, "filesystem", "rootdirectory")
    folder = Path(root) if isinstance(root, str) and Path(root).is_absolute() else None
    read_only = _at(storage, "maintenance", "readonly", "enabled") is True
    return RegistryConfig(file, folder, bool(_at(storage, "cache")), not read_only and not said.get("proxy"))


def _at(value: Any, *path: str) -> Any:  # noqa: ANN401 - as YAML has it
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value
