"""Plain data -> YAML text."""

from __future__ import annotations

import yaml


def to_yaml(data: object) -> str:
    """The data as YAML, in its own order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def scalar(text: str) -> str:
    """One text as a YAML scalar, quoted only where YAML would take it for something else (`1.5:3` is a number to YAML 1.1)."""
    return to_yaml(text).removesuffix("...\n").strip()
