"""Dockerfile folders of this machine."""

from __future__ import annotations

from pathlib import Path

from controller.documents.catalog import read_entry
from controller.domain.desired import BuildSource
from controller.domain.errors import UsageError, WharfError
from controller.domain.problems import DocumentsError
from controller.sources.contexts import FolderContexts


def named_in(folder: Path) -> str:
    """What a Dockerfile folder calls its image: by its image.yaml, else by its own name. DocumentsError when that is no name."""
    entry, problems = read_entry(folder.absolute())
    if entry is None:
        raise DocumentsError(problems)
    return entry.name


async def check_folder(source: BuildSource) -> None:
    """That a Dockerfile folder can be read; UsageError when it can't."""
    try:
        await FolderContexts().look(source)
    except WharfError as error:
        raise UsageError(str(error)) from None
