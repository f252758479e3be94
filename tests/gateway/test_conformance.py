"""The distribution specification's conformance suite, requirement by requirement, through the gateway (pull, push, content discovery, management).

What the registry behind answers is what a client gets; Distribution 2.8 has no referrers API, and deletes by digest only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from controller.domain.oci import OCI_MANIFEST
from tests.gateway.conftest import Quay

NAME = "conformance/test"
MISSING = f"sha256:{'0' * 64}"


def digest_of(data: bytes) -> str:
    """Its sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Client:
    """A plain HTTP client of the gateway."""

    http: httpx.AsyncClient

    async def push_blob(self, data: bytes, name: str = NAME) -> httpx.Response:
        """POST, then PUT."""
        opened = await self.http.post(f"/v2/{name}/blobs/uploads/")
        assert opened.status_code == 202
        url = httpx.URL(opened.headers["Location"]).copy_merge_params({"digest": digest_of(data)})
        return await self.http.put(url, content=data, headers={"Content-Type": "application/octet-stream"})

    async def push_manifest(self, tag: str, config: bytes, layer: bytes) -> bytes:
        """What was put."""
        said = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}],
        }
        raw = json.dumps(said).encode()
        put = await self.http.put(f"/v2/{NAME}/manifests/{tag}", content=raw, headers={"Content-Type": OCI_MANIFEST})
        assert put.status_code == 201, put.text
        assert "Location" in put.headers
        return raw


@pytest.fixture
async def asking(quay: Quay) -> AsyncIterator[Client]:
    """To the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=30) as http:
        yield Client(http)


async def test_pull(asking: Client) -> None:
    """Manifests by tag and digest, blobs, HEAD and GET; what is not there is 404."""
    config, layer = b"{}", os.urandom(5000)
    for data in (config, layer):
        assert (await asking.push_blob(data)).status_code == 201
    raw = await asking.push_manifest("one", config, layer)
    for method in ("HEAD", "GET"):
        for path in (f"blobs/{MISSING}", f"manifests/{MISSING}", "manifests/missing"):
            missing = await asking.http.request(method, f"/v2/{NAME}/{path}")
            assert missing.status_code == 404, (method, path)
        blob = await asking.http.request(method, f"/v2/{NAME}/blobs/{digest_of(layer)}")
        assert (blob.status_code, blob.headers["Content-Length"]) == (200, "5000")
        assert blob.headers["Docker-Content-Digest"] == digest_of(layer)
        assert blob.content == (layer if method == "GET" else b"")
        for reference in ("one", digest_of(raw)):
            found = await asking.http.request(method, f"/v2/{NAME}/manifests/{reference}", headers={"Accept": OCI_MANIFEST})
            assert (found.status_code, found.headers["Content-Type"]) == (200, OCI_MANIFEST)
            assert (found.headers["Docker-Content-Digest"], found.headers["Content-Length"]) == (digest_of(raw), str(len(raw)))
            assert found.content == (raw if method == "GET" else b"")
    again = await asking.http.get(f"/v2/{NAME}/manifests/one", headers={"If-None-Match": f'"{digest_of(raw)}"'})
    assert again.status_code == 304
    assert (await asking.http.get("/v2/")).status_code == 200


async def test_push_in_chunks(asking: Client) -> None:
    """PATCH after PATCH, and the upload tells how far it is. Distribution 2.8 takes chunks out of order, which others answer by 416."""
    first, second = os.urandom(3000), os.urandom(2000)
    url = (await asking.http.post(f"/v2/{NAME}/blobs/uploads/")).headers["Location"]
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "0-2999"}
    patched = await asking.http.patch(url, content=first, headers=headers)
    assert (patched.status_code, patched.headers["Range"]) == (202, "0-2999")
    url = patched.headers["Location"]
    told = await asking.http.get(url)
    assert (told.status_code, told.headers["Range"]) == (204, "0-2999")
    patched = await asking.http.patch(told.headers["Location"], content=second, headers={**headers, "Content-Range": "3000-4999"})
    assert patched.status_code == 202
    done = await asking.http.put(httpx.URL(patched.headers["Location"]).copy_merge_params({"digest": digest_of(first + second)}))
    assert (done.status_code, done.headers["Docker-Content-Digest"]) == (201, digest_of(first + second))
    assert (await asking.http.get(f"/v2/{NAME}/blobs/{digest_of(first + second)}")).content == first + second


async def test_push_of_a_wrong_digest(asking: Client) -> None:
    """Is refused, and is not there."""
    url = httpx.URL((await asking.http.post(f"/v2/{NAME}/blobs/uploads/")).headers["Location"])
    put = await asking.http.put(url.copy_merge_params({"digest": MISSING}), content=b"other bytes")
    assert put.status_code == 400
    assert put.json()["errors"][0]["code"] == "DIGEST_INVALID"
    assert (await asking.http.head(f"/v2/{NAME}/blobs/{MISSING}")).status_code == 404


async def test_mount_and_cancel(asking: Client) -> None:
    """A blob of another repository is mounted; an upload that is given up is gone."""
    data = os.urandom(1000)
    await asking.push_blob(data)
    mounted = await asking.http.post(f"/v2/conformance/other/blobs/uploads/?mount={digest_of(data)}&from={NAME}")
    assert mounted.status_code == 201
    assert (await asking.http.head(f"/v2/conformance/other/blobs/{digest_of(data)}")).status_code == 200
    url = (await asking.http.post(f"/v2/{NAME}/blobs/uploads/")).headers["Location"]
    assert (await asking.http.delete(url)).status_code == 204
    assert (await asking.http.get(url)).status_code == 404


async def test_content_discovery(asking: Client) -> None:
    """Tags, and what a repository without any answers."""
    config, layer = b"{}", b"layer"
    for data in (config, layer):
        await asking.push_blob(data)
    for tag in ("a", "b", "c"):
        await asking.push_manifest(tag, config, layer)
    listed = (await asking.http.get(f"/v2/{NAME}/tags/list")).json()
    assert (listed["name"], sorted(listed["tags"])) == (NAME, ["a", "b", "c"])
    missing = await asking.http.get("/v2/conformance/missing/tags/list")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert NAME in (await asking.http.get("/v2/_catalog")).json()["repositories"]


async def test_content_management(asking: Client) -> None:
    """Deletes by the registry's own rules: by digest 202, by tag refused, and gone afterwards."""
    config, layer = b"{}", b"layer"
    for data in (config, layer):
        await asking.push_blob(data)
    raw = await asking.push_manifest("gone", config, layer)
    assert (await asking.http.delete(f"/v2/{NAME}/manifests/gone")).status_code in {400, 405}
    assert (await asking.http.delete(f"/v2/{NAME}/manifests/{digest_of(raw)}")).status_code == 202
    assert (await asking.http.get(f"/v2/{NAME}/manifests/gone")).status_code == 404
    assert (await asking.http.delete(f"/v2/{NAME}/blobs/{digest_of(layer)}")).status_code == 202


@pytest.mark.parametrize("path", ["/v2/UPPER/manifests/1", "/v2/a/../b/manifests/1", "/v2/x/blobs/sha256:short", "/v2//manifests/1", "/other"])
async def test_what_is_no_request(asking: Client, path: str) -> None:
    """Is 4xx."""
    assert 400 <= (await asking.http.get(path)).status_code < 500
