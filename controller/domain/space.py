"""What removing images frees on a host: an engine keeps a layer once, and for as long as any image has it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image on a host. `id` is the same where images share it, with all that is below it; `size` is in bytes."""

    id: str
    size: int


Layers = Mapping[str, Sequence[Layer]]
"""By Id, the layers of every image of a host, of those without a name too: they hold layers as well."""


def freed(layers: Layers, gone: Collection[str]) -> int:
    """The bytes that come free when these images are gone, and all others stay."""
    held = {layer.id for image, each in layers.items() if image not in gone for layer in each}
    return sum({layer.id: layer.size for image in gone for layer in layers.get(image, ()) if layer.id not in held}.values())
