"""What an engine's JSON means."""

from __future__ import annotations

from controller.hosts.images import host_images, references
from tests.support.builders import sha


def test_a_digest_alone_is_no_name() -> None:
    """The containerd store gives the Id as the RepoDigest of an image that it could not unpack: nothing has to be taken off before it can go."""
    (image,) = host_images([{"Id": sha("x"), "RepoTags": ["cyroid/kali:1"], "RepoDigests": [sha("x")]}], [])
    assert image.repo_digests == ()
    assert image.tags == references(["cyroid/kali:1"])
