"""Plain data -> YAML text."""

from __future__ import annotations

import yaml


def to_yaml(data: object) -> str:
    """The data as YAML, in its own order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))
