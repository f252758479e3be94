"""The labels that Wharfinger writes into images, and how they are read back from a config."""

from __future__ import annotations

import json

CONTEXT_HASH = "wharfinger.dev/context-hash"
"""What a built image was built from: the hash of its Dockerfile folder and of all else that the build depends on."""


def label_of(config: bytes, name: str) -> str:
    """A label in an image's config (image-spec, config.md); "" where there is none, or what is said is no text."""
    try:
        value = json.loads(config)["config"]["Labels"][name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
