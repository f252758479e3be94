"""An engine's JSON -> values. Names become canonical, what can't be understood is left out, nothing is guessed."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from controller.domain.errors import InvalidReferenceError
from controller.domain.observation import HostImage, StoreKind
from controller.domain.ports.hosts import ImageDetail, Removal
from controller.domain.ranges import Container
from controller.domain.reference import Reference, is_digest, parse
from controller.domain.space import Layer
from controller.hosts import standin

log = logging.getLogger(__name__)

_CLASSIC = {"overlay2", "vfs", "btrfs", "zfs", "fuse-overlayfs", "aufs", "devicemapper", "overlay", "windowsfilter"}
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_NEVER = "0001-01-01T00:00:00"
"""Go's zero time."""


def store_kind(info: Mapping[str, Any]) -> StoreKind:
    """How an engine keeps images, by /info: containerd's snapshotter says so in DriverStatus, graph drivers are known by name."""
    if _SNAPSHOTTER in str(info.get("DriverStatus")):
        return StoreKind.CONTAINERD
    return StoreKind.CLASSIC if info.get("Driver") in _CLASSIC else StoreKind.UNKNOWN


def host_images(images: Iterable[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]]) -> tuple[HostImage, ...]:
    """The images of /images/json with the containers of /containers/json?all=1 that use them, sorted by Id; without our own stand-ins."""
    by_id: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for container in containers:
        name = _container_name(container)
        for known in {str(container.get("ImageID", "")), _manifest_of(container)} - {""}:
            by_id.setdefault(known, []).append(name)
        by_name.setdefault(_canonical(str(container.get("Image", ""))), []).append(name)
    theirs = (each for each in images if each["Id"] not in standin.IDS)
    return tuple(sorted((_image(each, by_id, by_name) for each in theirs), key=lambda image: image.id))


def _image(said: Mapping[str, Any], by_id: Mapping[str, list[str]], by_name: Mapping[str, list[str]]) -> HostImage:
    image_id = str(said["Id"])
    tags, manifests = references(said.get("RepoTags")), _held_manifests(said)
    using = [name for known in (image_id, *manifests) for name in by_id.get(known, ())]
    using += [name for tag in tags for name in by_name.get(str(tag), ())]
    size = int(said.get("Size") or 0)
    return HostImage(image_id, tags, references(said.get("RepoDigests")), size, manifests, tuple(sorted(set(using))))


def references(texts: Iterable[str] | None) -> tuple[Reference, ...]:
    """The canonical references of RepoTags or RepoDigests; `<none>`, a digest alone and what is no reference are left out."""
    found: list[Reference] = []
    for text in texts or ():
        if "<none>" in text or is_digest(text):  # The containerd store gives the Id as the RepoDigest of what it could not unpack.
            continue
        try:
            found.append(parse(text))
        except InvalidReferenceError as error:
            log.debug("left out: %s", error)
    return tuple(sorted(set(found)))


def detail(said: Mapping[str, Any]) -> ImageDetail:
    """/images/{name}/json."""
    layers = (said.get("RootFS") or {}).get("Layers") or ()
    tagged = str((said.get("Metadata") or {}).get("LastTagTime") or "")
    labels = (said.get("Config") or {}).get("Labels") or {}
    named = tuple(sorted((str(name), str(value)) for name, value in labels.items()))
    return ImageDetail(str(said["Id"]), tuple(said.get("RepoTags") or ()), tuple(map(str, layers)), epoch(tagged), named)


def removal(said: Iterable[Mapping[str, str]]) -> Removal:
    """The answer to DELETE /images/{name}."""
    rows = list(said)
    return Removal(tuple(row["Untagged"] for row in rows if "Untagged" in row), tuple(row["Deleted"] for row in rows if "Deleted" in row))


def labelled(said: Mapping[str, Any], key: str) -> Container:
    """One of /containers/json: what its label says, and its addresses."""
    networks = (said.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = ((str(name), str((each or {}).get("IPAddress") or (each or {}).get("GlobalIPv6Address") or "")) for name, each in networks.items())
    label = str((said.get("Labels") or {}).get(key, ""))
    return Container(str(said["Id"]), _container_name(said), label, tuple(sorted(pair for pair in addresses if pair[1])))


def own_sizes(said: Mapping[str, Any]) -> dict[str, int]:
    """/system/df: by Id, an image's size without what it shares; an engine that does not know says -1 for both."""
    images = said.get("Images") or ()
    return {str(each["Id"]): max(0, int(each.get("Size") or 0) - max(0, int(each.get("SharedSize") or 0))) for each in images}


def layers_of(image: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """/images/{name}/history, whose newest step comes first: each step with a size is a layer, known by itself and all steps below it.

    An image whose history says nothing is taken for one layer of its own.
    """
    found: list[Layer] = []
    chain = ""
    for step in reversed(history):
        size = int(step.get("Size") or 0)
        if size > 0:
            chain = hashlib.sha256(f"{chain} {step.get('Created')} {size} {step.get('CreatedBy')}".encode()).hexdigest()
            found.append(Layer(chain, size))
    return tuple(found) or (Layer(str(image["Id"]), int(image.get("Size") or 0)),)


def epoch(text: str) -> float | None:
    """Seconds since the epoch for Go's RFC 3339 with nanoseconds; None for its zero time and for anything else."""
    if not text or text.startswith(_NEVER):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except ValueError:
        return None


def _held_manifests(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Containerd store, with ?manifests=1: the platforms whose content is really here; attestations are none."""
    listed = said.get("Manifests") or ()
    return tuple(sorted(str(each["ID"]) for each in listed if each.get("Kind") == "image" and each.get("Available") and each.get("ID")))


def _manifest_of(container: Mapping[str, Any]) -> str:
    descriptor = container.get("ImageManifestDescriptor")
    return str(descriptor.get("digest", "")) if isinstance(descriptor, Mapping) else ""


def _container_name(container: Mapping[str, Any]) -> str:
    names = container.get("Names") or ()
    return str(names[0]).removeprefix("/") if names else str(container.get("Id", "?"))[:12]


def _canonical(text: str) -> str:
    try:
        return str(parse(text))
    except InvalidReferenceError:
        return text
