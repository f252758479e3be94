"""What an image archive holds, as values: where each blob lies, what is known of it beforehand, and how a layer is stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from controller.domain.errors import NotFoundError, RefusedError, WharfError
from controller.domain.oci import Descriptor, Manifest
from controller.domain.reference import Reference

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_SHOWN = 10
_LAYER = re.compile(r"application/vnd\.[a-z.]+\.(?:layer|diff)\.[a-z0-9.]*tar(?:[.+](?:gzip|zstd))?")


class Packing(StrEnum):
    """How plain layers are compressed on their way into the registry."""

    FAST = "fast"
    SMALL = "small"
    ZSTD = "zstd"


class Form(StrEnum):
    """How a layer's bytes are stored."""

    PLAIN = "plain"
    GZIP = "gzip"
    ZSTD = "zstd"


LAYER_TYPES = {
    Form.PLAIN: "application/vnd.oci.image.layer.v1.tar",
    Form.GZIP: "application/vnd.oci.image.layer.v1.tar+gzip",
    Form.ZSTD: "application/vnd.oci.image.layer.v1.tar+zstd",
}


def is_layer(media_type: str) -> bool:
    """Whether it is a tar, compressed or not, that a config's diff_ids speak of (image-spec, "Layer")."""
    return _LAYER.fullmatch(media_type) is not None


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive. `names` are those that the archive gives it. `size` is in bytes, as far as it is known before it is read whole.

    `identity` is the digest of its config, or where the archive has manifests of the OCI layout, of its manifest or index.
    """

    identity: str
    names: tuple[Reference, ...]
    size: int


@dataclass(frozen=True, slots=True)
class ArchivedBlob:
    """One blob of an image: the `member` of the archive that it lies in, of `size` bytes.

    `blob` is what a manifest or its own name says of it, and it is kept verbatim; None: a plain layer, which is packed. `diff_id` is what the image's
    config says of the layer's plain bytes, "" where nothing does.
    """

    member: str
    size: int
    blob: Descriptor | None = None
    diff_id: str = ""


@dataclass(frozen=True, slots=True)
class ArchivedContent:
    """What one image of an archive is made of.

    Of an OCI layout, `manifests` are all of its manifests, what they refer to first and the root last, verbatim; `blobs` each of their blobs once.
    Of others `config` has the config's bytes, and `blobs` are the layers in their order. `error` says why it can't be imported, `note` what people
    should know of it.
    """

    image: ArchivedImage
    title: str
    manifests: tuple[Manifest, ...] = ()
    config: bytes = b""
    blobs: tuple[ArchivedBlob, ...] = ()
    error: WharfError | None = field(default=None, compare=False)
    note: str = ""

    @property
    def configs(self) -> frozenset[str]:
        """The digests of the configs that its manifests name."""
        return frozenset(each.config.digest for each in self.manifests if each.config)


def diff_ids(config: object) -> tuple[str, ...] | None:
    """What a config says of its layers (image-spec, "rootfs"); None when it says nothing that can be understood."""
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    said = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if said is None and isinstance(rootfs, dict):
        return ()
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        return None
    return tuple(said)


def chosen(contents: Sequence[ArchivedContent], name: Reference | None, path: str) -> ArchivedContent:
    """The image of that name, or the only one; its own error, NotFoundError or RefusedError when there is none."""
    found = [each for each in contents if name is None or name in each.image.names]
    names = ", ".join(sorted({name.familiar for each in contents for name in each.image.names})[:_SHOWN]) or "no names"
    if not found:
        raise NotFoundError(f"looking for {name.familiar if name else 'an image'} in {path}", f"it has {names}")
    if len(found) > 1:
        raise RefusedError(f"looking for the image of {path}", f"it has {len(contents)} images: {names}", hint="say which one by its name")
    if found[0].error is not None:
        raise found[0].error
    return found[0]
