"""Where what the registry has came from, by the audit trail and the files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.domain.desired import ArchiveSource, BuildSource, DesiredImage
from controller.domain.ports.stores import AuditEntry
from controller.domain.provenance import Provenance, provenance
from tests.support.builders import image, sha

NOW = sha("now")
PUSH = AuditEntry(10.0, "run", "Push", "cyroid/kali:1", "local", "OnHostOnly", "", NOW, 1, 1.0, "")
KALI = image("cyroid/kali:1")
BASE = image("tools/base:1", source="quay.io/org/base:v7")


@pytest.mark.parametrize(
    ("entry", "action", "actor", "by", "words"),
    [
        (BASE, "Copy", "run", Provenance.UPSTREAM, "copied from quay.io/org/base:v7"),
        (None, "Copy", "run", Provenance.UPSTREAM, "copied from where its host had pulled it"),
        (None, "Copy", "pull", Provenance.COMMAND, "copied from upstream by `wharf pull`"),
        (image("a:1", source=ArchiveSource("/srv/a.tar")), "Import", "run", Provenance.ARCHIVE, "imported from /srv/a.tar"),
        (image("a:1", source=BuildSource("/srv/a", "local")), "Build", "run", Provenance.BUILD, "built on local of /srv/a"),
        (None, "Import", "import", Provenance.ARCHIVE, "imported from an archive by `wharf import`"),
        (None, "Build", "build", Provenance.COMMAND, "built on local of a Dockerfile folder by `wharf build`"),
        (KALI, "Push", "apply", Provenance.LISTED, "pushed from local, as the set ranges lists it"),
        (None, "Push", "run", Provenance.ADOPTED, "adopted from local"),
        (KALI, "Push", "push", Provenance.COMMAND, "pushed from local by `wharf push`"),
        (None, "PullThrough", "gateway", Provenance.PULLED_THROUGH, "pulled from the internet through the gateway, by local"),
        (KALI, "Restore", "restore", Provenance.RESTORED, "given back by `wharf restore`"),
        (KALI, "Restore", "run", Provenance.RESTORED, "listed again in its restore window"),
    ],
)
def test_each_way_into_the_registry(entry: DesiredImage | None, action: str, actor: str, by: Provenance, words: str) -> None:
    """What brought it, and by whom it was asked for."""
    came = provenance(NOW, entry, [replace(PUSH, action=action, actor=actor)])
    assert (came.by, came.words, came.at) == (by, words, 10.0)


def test_only_what_brought_this_content_counts() -> None:
    """A push that failed, one of other content, and an eviction whose proof has this digest are none; of several the newest is told."""
    others = [replace(PUSH, error="refused"), replace(PUSH, after=sha("other")), replace(PUSH, action="Evict", before=sha("id"))]
    assert provenance(NOW, KALI, others).by is Provenance.UNRECORDED
    assert provenance(NOW, KALI, [*others, replace(PUSH, at=9.0), PUSH]).at == 9.0
