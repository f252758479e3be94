"""Choosing platforms of an index: what is kept, in which bytes, and what is said when one is not there."""

from __future__ import annotations

import json

import pytest

from controller.domain.errors import CorruptError, RefusedError
from controller.domain.oci import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, parse_manifest
from controller.domain.platforms import check_single, choose, matches
from tests.support.builders import sha


def _child(platform: str, word: str = "", **more: object) -> dict[str, object]:
    named = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return {"platform": named, "size": 7, "digest": sha(word or platform), "mediaType": OCI_MANIFEST, **more}


def _attestation(of: str) -> dict[str, object]:
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": sha(of)}
    return _child("unknown/unknown", f"attestation of {of}", annotations=notes)


def _index(*children: dict[str, object], media_type: str = OCI_INDEX, **more: object) -> Manifest:
    return parse_manifest(json.dumps({"manifests": children, "schemaVersion": 2, "mediaType": media_type, **more}, indent=4).encode())


ARM = ("linux/arm/v6", "linux/arm/v7", "linux/arm64/v8")
WHOLE = _index(*[_child(each) for each in ("linux/amd64", *ARM, "windows/amd64")], _attestation("linux/amd64"), _attestation("linux/arm/v7"))


def _chosen(*platforms: str, index: Manifest = WHOLE) -> list[str]:
    found = choose(index, platforms)
    assert isinstance(found, Manifest)
    return [child.platform for child in found.children]


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_several_but_not_all_make_a_new_index(media_type: str) -> None:
    """Same media type and annotations, descriptors verbatim and in their order, whatever order the file names them in: always the same bytes."""
    first, second = _child("linux/amd64") | {"x-more": [1, {"b": 1, "a": 2}]}, _child("linux/arm64", urls=["https://example.com/é"])
    index = _index(first, _child("linux/s390x"), second, media_type=media_type, annotations={"org.example": "kept"})
    found = choose(index, ["linux/arm64", "linux/amd64"])
    assert isinstance(found, Manifest)
    said = json.loads(found.raw)
    assert json.dumps(said["manifests"]) == json.dumps([first, second])
    assert (said["mediaType"], said["annotations"], found.media_type) == (media_type, {"org.example": "kept"}, media_type)
    assert choose(index, ["linux/amd64", "linux/arm64", "linux/amd64"]) == found
    assert choose(parse_manifest(index.raw), ["linux/amd64", "linux/arm64"]) == found


def test_the_bytes_of_a_new_index_never_change() -> None:
    """Its digest is what plans and registries know it by: another way to write it would copy every image anew."""
    found = choose(_index(_child("linux/amd64"), _child("linux/arm64"), _child("linux/s390x")), ["linux/amd64", "linux/arm64"])
    assert found.digest == "sha256:8128c720b997586fb5599c9064ae900eb2c84ba37ae5c1573ffa0280ef32760a"


def test_one_is_its_manifest() -> None:
    """The child's own descriptor: that manifest is meant, verbatim."""
    found = choose(WHOLE, ["windows/amd64"])
    assert isinstance(found, Descriptor)
    assert (found.digest, found.platform) == (sha("windows/amd64"), "windows/amd64")


def test_all_is_the_index_itself() -> None:
    """Nothing is left out, so its bytes stay upstream's, attestations and all; also when all is one."""
    assert choose(WHOLE, ["linux/amd64", "linux/arm", "linux/arm64", "windows/amd64"]) is WHOLE
    assert choose(WHOLE, []) is WHOLE
    only = _index(_child("linux/amd64"), _attestation("linux/amd64"))
    assert choose(only, ["linux/amd64"]) is only


def test_a_variant_that_is_not_named_is_any() -> None:
    """linux/arm64 takes linux/arm64/v8, linux/arm both of its variants, linux/arm/v7 that one; no name takes the beginning of another."""
    assert _chosen("linux/arm") == ["linux/arm/v6", "linux/arm/v7", "unknown/unknown"]
    assert choose(WHOLE, ["linux/arm64"]).digest == sha("linux/arm64/v8")
    assert choose(WHOLE, ["linux/arm/v7"]).digest == sha("linux/arm/v7")
    assert not matches("linux/arm", "linux/arm64")
    assert not matches("linux/arm64/v8", "linux/arm64")


def test_attestations_go_with_what_they_are_of() -> None:
    """Those of chosen children are kept, the others are not."""
    assert _chosen("linux/amd64", "windows/amd64") == ["linux/amd64", "windows/amd64", "unknown/unknown"]
    assert _chosen("windows/amd64", "linux/arm64") == ["linux/arm64/v8", "windows/amd64"]


def test_a_platform_that_is_not_there() -> None:
    """The error lists which ones are."""
    there = r"linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64/v8, windows/amd64"
    with pytest.raises(RefusedError, match=rf"choosing linux/s390x: there is only {there} \(correct `platforms`"):
        choose(WHOLE, ["linux/amd64", "linux/s390x"])
    with pytest.raises(RefusedError, match="an image of no platform"):
        choose(_index(), ["linux/amd64"])


def test_a_single_image_must_be_of_the_platform() -> None:
    """Its config says which it is, variant included."""
    config = json.dumps({"os": "linux", "architecture": "arm64", "variant": "v8"}).encode()
    check_single(config, ["linux/amd64", "linux/arm64"], name="org/app")
    check_single(config, ["linux/arm64/v8"], name="org/app")
    with pytest.raises(RefusedError, match=r"choosing linux/amd64: there is only linux/arm64/v8"):
        check_single(config, ["linux/amd64"], name="org/app")
    with pytest.raises(CorruptError, match="org/app: its config is no JSON"):
        check_single(b"\x00", ["linux/amd64"], name="org/app")
    with pytest.raises(RefusedError, match="no platform"):
        check_single(b"[]", ["linux/amd64"], name="org/app")
