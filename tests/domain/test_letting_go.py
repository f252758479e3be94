"""Which manifests go before a collection: what expired and nothing names, an index with its children; in doubt they stay."""

from __future__ import annotations

import json

import pytest

from controller.domain.letting_go import let_go
from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from tests.support.builders import sha


def one(word: str, subject: Manifest | None = None) -> Manifest:
    """An image's manifest, or one that refers to another."""
    about = {} if subject is None else {"subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": 1}}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha(word), "size": 1}
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], **about}).encode())


def index(*children: Manifest) -> Manifest:
    """An index of these."""
    listed = [{"mediaType": child.media_type, "digest": child.digest, "size": 1} for child in children]
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode())


A, B, C = one("a"), one("b"), one("c")
AB, BC = index(A, B), index(B, C)
SIGNED = one("signature", subject=A)
OUTER = index(AB)


@pytest.mark.parametrize(
    ("expired", "known", "named", "goes"),
    [
        ([A], [A, B], [B], [A]),
        ([A], [A], [A], []),
        ([A], [B], [], []),
        ([AB], [AB, A, B], [], [AB, A, B]),
        ([AB], [AB, A, B], [B], [AB, A]),
        ([AB], [AB, A, B, BC, C], [], [AB, A]),
        ([A], [AB, A, B], [], []),
        ([A, AB], [OUTER, AB, A, B], [], []),
        ([A], [A, SIGNED], [], []),
        ([A, SIGNED], [A, SIGNED], [], [SIGNED, A]),
    ],
    ids=[
        "expired",
        "a tag means it",
        "gone already",
        "an index with its children",
        "a tag means a child",
        "another index has a child",
        "an index has it",
        "an index of an index has it",
        "something refers to it",
        "and expired too",
    ],
)
def test_what_goes(expired: list[Manifest], known: list[Manifest], named: list[Manifest], goes: list[Manifest]) -> None:
    """By digest; an index goes before what it names."""
    found = let_go([each.digest for each in expired], {each.digest: each for each in known}, frozenset(each.digest for each in named))
    assert sorted(found) == sorted(each.digest for each in goes)
    indexes = {each.digest for each in known if each.is_index}
    assert [digest in indexes for digest in found] == sorted((digest in indexes for digest in found), reverse=True)
