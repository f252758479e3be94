"""Taking a name off an image so that nothing can be lost by it: an engine has no removal that looks first (law 1).

A removal by name destroys whatever the name means at that moment: a build that has just moved it is gone, if that is its only name. A removal by Id
spares what a name moved to, but is refused while an image has several names. So the name is first given to an image of ours, the stand-in, by which
nothing is deleted; then the stand-in is removed by Id, with its one name if it still has that. Whoever got the name in between keeps it, and who had
got it just before gets it back, by the engine's own events.

Stand-ins are always the same few images, known by their Ids, so that one which a kill left behind is never taken for somebody's.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import random
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker.errors
import docker.utils
import requests
import urllib3.exceptions

from controller.domain.errors import InvalidReferenceError, MovedError, RefusedError
from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, digest_of
from controller.domain.reference import Reference, parse
from controller.hosts.streams import Client

log = logging.getLogger(__name__)

_LAYER = bytes(1024)
"""A tar of nothing."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_PATIENCE = 5
"""Seconds for what an engine remembers of the last moment."""

_SEVERAL = 8
"""As many names as can be taken off at a time."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """One image without content. `tar` is what engines load; `ids` are its Ids on a classic store and on a containerd store."""

    tar: bytes
    ids: frozenset[str]


def _made(number: int) -> StandIn:
    said = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(_LAYER)]},
        "history": [{"created_by": f"wharf: the name of this image is on its way off, {number}"}],
    }
    config = json.dumps(said, sort_keys=True).encode()
    layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(_LAYER), "size": len(_LAYER)}]
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}, sort_keys=True).encode()
    listed = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest), "platform": {"os": "linux", "architecture": "amd64"}}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()
    legacy = json.dumps([{"Config": _path(config), "RepoTags": None, "Layers": [_path(_LAYER)]}]).encode()
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, "manifest.json": legacy}
    return StandIn(_tar(files | {_path(data): data for data in (_LAYER, config, manifest)}), frozenset({digest_of(config), digest_of(manifest)}))


def _path(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


STAND_INS = tuple(_made(number) for number in range(_SEVERAL))
IDS = frozenset(image_id for each in STAND_INS for image_id in each.ids)
"""The Ids of all stand-ins: nobody else's image has them, as they are hashes of what it is."""


def take_off(client: Client, reference: str, image_id: str, stand_in: StandIn) -> None:
    """Take the name off the image; MovedError when it means another one, NotFound when it means nothing. No image is deleted.

    Nobody else of this process may use the stand-in meanwhile.
    """
    since = _time(client)
    there = str(client.inspect_image(reference)["Id"])
    if there != image_id:
        raise MovedError(f"{reference} means {there[:19]} there, and not {image_id[:19]} any more: look again")
    _replaced(client, reference, stand_in)
    _give_back(client, parse(reference), IDS | {image_id}, since)


def tidy(client: Client, free: Sequence[StandIn]) -> None:
    """Remove these stand-ins, which nobody here uses, with the names that were left them: the last one by Id, others by way of another stand-in."""
    by_id = {image_id: each for each in free for image_id in each.ids}
    for image in client.images():
        mine = by_id.get(image["Id"])
        other = next((each for each in free if each is not mine), None)
        if mine is None or _remove(client, image["Id"]) or other is None:
            continue
        for name in image["RepoTags"][1:]:
            with suppress(MovedError, docker.errors.NotFound):
                take_off(client, name, image["Id"], other)
        _remove(client, image["Id"])


def _replaced(client: Client, reference: str, first: StandIn) -> None:
    """Give the name to a stand-in, and remove that; another one, where somebody else's controller has given a name to it too."""
    answer = "all stand-ins are in use"
    for stand_in in (first, *random.sample(STAND_INS, _SEVERAL)):
        try:
            if _replaced_by(client, reference, stand_in):
                return
        except docker.errors.APIError as error:
            if not error.is_server_error():
                raise
            answer = str(error.explanation or error)  # Engines have a 500 of many words for an image that goes in this very moment.
    raise RefusedError(f"taking {reference} off", answer, hint="does another controller work on this engine in the same moment?")


def _replaced_by(client: Client, reference: str, stand_in: StandIn) -> bool:
    repository, _, tag = reference.rpartition(":")
    for _answer in client.load_image(stand_in.tar):
        pass  # What it says is read back by the Id.
    found = next((image_id for image_id in stand_in.ids if _is_there(client, image_id)), "")
    return bool(found) and _tagged(client, found, repository, tag) and _remove(client, found)


def _tagged(client: Client, image_id: str, repository: str, tag: str) -> bool:
    """Whether it got the name; not when another controller has just tidied it away."""
    try:
        client.tag(image_id, repository, tag)
    except docker.errors.NotFound:
        return False
    return True


def _remove(client: Client, image_id: str) -> bool:
    """By Id, which spares a name that has moved on; False when it has several."""
    try:
        client.remove_image(image_id, force=False, noprune=True)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError as error:
        if error.status_code != 409:  # noqa: PLR2004 - a conflict
            raise
        return False
    return True


def _give_back(client: Client, name: Reference, ours: frozenset[str], since: str) -> None:
    """Whoever got the name after we looked, and lost it to the stand-in, has it again."""
    told = _tag_events(client, since)
    others = [str(event["Actor"]["ID"]) for event in told if _named(event) == name and event["Actor"]["ID"] not in ours]
    if others and not _is_there(client, str(name)) and _is_there(client, others[-1]):
        client.tag(others[-1], f"{name.domain}/{name.repository}", name.tag)


def _tag_events(client: Client, since: str) -> list[dict[str, Any]]:
    """Until now; none where the engine, or what stands before it, does not tell. The SDK's events() would wait for ever."""
    asked = {"since": since, "until": _time(client), "filters": docker.utils.convert_filters({"type": "image", "event": "tag"})}
    try:
        answer = client._get(client._url("/events"), params=asked, timeout=_PATIENCE)  # noqa: SLF001 - the SDK's own request helpers
        client._raise_for_status(answer)  # noqa: SLF001
        return [json.loads(line) for line in answer.text.splitlines() if line.strip()]
    except (docker.errors.APIError, requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        log.warning("an engine does not tell whether a name moved while it was taken off: %s", error)
        return []


def _named(event: Mapping[str, Any]) -> Reference | None:
    try:
        return parse(str(event["Actor"]["Attributes"].get("name", "")))
    except InvalidReferenceError:
        return None


def _is_there(client: Client, image: str) -> bool:
    try:
        client.inspect_image(image)
    except docker.errors.NotFound:
        return False
    return True


def _time(client: Client) -> str:
    """The engine's own time, as its events have it: seconds and nanoseconds."""
    said = str(client.info()["SystemTime"])
    parts = _TIME.fullmatch(said)
    if parts is None:
        raise RefusedError("asking an engine for its time", f"SystemTime {said!r}", hint="is that a Docker Engine?")
    seconds, fraction, zone = parts.groups()
    return f"{datetime.fromisoformat(seconds + zone.replace('Z', '+00:00')).timestamp():.0f}.{fraction or '0'}"
