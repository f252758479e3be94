"""Documents as text, and what the loader says about one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from textwrap import dedent

from controller.documents.loader import Documents, load
from controller.domain.problems import DocumentsError

SAMPLE = files("controller.documents").joinpath("sample.yaml").read_text(encoding="utf-8")

HEAD = "apiVersion: wharfinger.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\nspec:\n"


def wharf(spec: str = "") -> str:
    """A Wharf whose spec begins in line 5: the registry, which takes that line, and these lines."""
    return HEAD.format(kind="Wharf") + "  registry: {url: http://127.0.0.1:5000}\n" + _inside(spec)


def image_set(*entries: str) -> str:
    """An ImageSet; its entries are in lines 6, 7, and so on, and begin in column 7."""
    return HEAD.format(kind="ImageSet") + "  images:\n" + "".join(f"    - {entry}\n" for entry in entries)


def loaded(tmp_path: Path, text: str | bytes, name: str = "d.yaml") -> Documents:
    """The documents of a file with this text."""
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load([file])


def said(tmp_path: Path, text: str | bytes) -> list[str]:
    """The problems of a file with this text, without its folder; none when it is right."""
    try:
        loaded(tmp_path, text)
    except DocumentsError as error:
        return [str(problem).replace(f"{tmp_path}/", "") for problem in error.problems]
    return []


def _inside(text: str) -> str:
    return "".join(f"  {line}\n" for line in dedent(text).strip("\n").splitlines())
