"""What verifying an image found: whole, or what of it is broken and how. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controller.domain.reference import Target


class Part(StrEnum):
    """What a digest is of."""

    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"


class Found(StrEnum):
    """What was found in place of the content: one CamelCase word, the same on every surface."""

    ABSENT = "Absent"
    """The repository has no such tag."""
    MISSING = "Missing"
    """It is named, and the registry does not have it."""
    CUT_SHORT = "CutShort"
    """Its first bytes, or none."""
    OTHER_BYTES = "OtherBytes"
    """Bytes with another digest."""
    UNREADABLE = "Unreadable"
    """The registry refuses to show it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that is not whole. `size` is in bytes as what names it says, 0 where nothing does; `digest` is "" for a tag that tells none."""

    part: Part
    digest: str
    size: int
    repository: str
    found: Found
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One image as it was read. `bytes` is all that it is made of; `at_urls` counts layers that are left at their urls and can't be read here."""

    target: Target
    sets: tuple[str, ...]
    digest: str
    bytes: int
    at_urls: int = 0
    broken: tuple[Broken, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every byte that could be read is what its digest says."""
        return not self.broken
