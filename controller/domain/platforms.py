"""Choosing platforms of an index: what the registry's tag will mean when an entry of a set lists `platforms` (law 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from controller.domain.errors import CorruptError, RefusedError
from controller.domain.oci import Descriptor, Manifest, parse_manifest, platform_of

ATTESTATION_OF = "vnd.docker.reference.digest"
"""The annotation by which BuildKit says of which child a manifest is the attestation; such a one has the platform unknown/unknown."""

_KEPT_FIELDS = ("schemaVersion", "mediaType", "artifactType")


def choose(index: Manifest, platforms: Sequence[str]) -> Manifest | Descriptor:
    """What is left of an index when only these platforms are wanted.

    All of them: the index itself. One child: its descriptor, as that manifest is meant, verbatim. Several but not all: a new index, of which the
    same input always gives the same bytes, with the chosen descriptors verbatim and in their order, and with their attestations.
    Raises RefusedError, which lists what there is, when a platform is not among them.
    """
    images = [child for child in index.children if _is_image(child)]
    for platform in platforms:
        if not any(matches(platform, child.platform) for child in images):
            raise _not_there(platform, sorted({child.platform for child in images if child.platform}))
    chosen = {child.digest for child in images if not platforms or any(matches(platform, child.platform) for platform in platforms)}
    if chosen.issuperset(child.digest for child in images):
        return index
    if len(chosen) == 1:
        return next(child for child in images if child.digest in chosen)
    return _filtered(index, [child.digest in chosen or child.annotation(ATTESTATION_OF) in chosen for child in index.children])


def check_single(config: bytes, platforms: Sequence[str], *, name: str) -> None:
    """That a single image is of one of these platforms, by its config; RefusedError when it is not, CorruptError when the config can't be read."""
    try:
        platform = platform_of(json.loads(config))
    except (ValueError, RecursionError):
        raise CorruptError(f"choosing platforms of {name}", "its config is no JSON", hint="the image is not usable") from None
    if not any(matches(wanted, platform) for wanted in platforms):
        raise _not_there(" or ".join(platforms), [platform] if platform else [])


def matches(wanted: str, platform: str) -> bool:
    """Whether a child is of the platform that the file names: `linux/arm64` takes any variant, `linux/arm/v7` only that one."""
    return platform == wanted or (wanted.count("/") == 1 and platform.startswith(f"{wanted}/"))


def _is_image(child: Descriptor) -> bool:
    return not child.annotation(ATTESTATION_OF) and child.platform != "unknown/unknown"


def _not_there(platform: str, there: Sequence[str]) -> RefusedError:
    answer = f"there is only {', '.join(there) or 'an image of no platform'}"
    return RefusedError(f"choosing {platform}", answer, hint="correct `platforms` in the file")


def _filtered(index: Manifest, kept: Sequence[bool]) -> Manifest:
    """The same index with fewer children: their descriptors as they stand there, all fields and their order."""
    said: dict[str, Any] = json.loads(index.raw)
    fewer = {field: said[field] for field in _KEPT_FIELDS if field in said}
    fewer["manifests"] = [entry for entry, keep in zip(said["manifests"], kept, strict=True) if keep]
    if "annotations" in said:
        fewer["annotations"] = said["annotations"]
    return parse_manifest(json.dumps(fewer, separators=(",", ":")).encode(), index.media_type)
