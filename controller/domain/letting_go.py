"""Which manifests of a repository go before its garbage is collected: those that were held, were let go of, and that nothing names any more.

Without it nothing would come free: a collector keeps every manifest that was not deleted by its digest, whether a tag means it or not. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controller.domain.oci import Manifest


def let_go(expired: Collection[str], known: Mapping[str, Manifest], named: Collection[str]) -> tuple[str, ...]:
    """Of the `expired` digests, and of all below them, those that may go, an index before its children.

    `known` are all manifests of the repository, `named` those that a tag means, or an index of a tag. What a manifest that stays names, or refers to
    by its subject, stays; so does all that is below.
    """
    going = {digest: None for digest in expired if digest in known and digest not in named}
    for digest in list(going):
        going |= {below: None for below in _below(digest, known) if below not in named}
    while kept := {each for digest, manifest in known.items() if digest not in going for each in _names(manifest) if each in going}:
        going = {digest: None for digest in going if digest not in kept}
    return tuple(sorted(going, key=lambda digest: (not known[digest].is_index, digest)))


def _below(digest: str, known: Mapping[str, Manifest]) -> list[str]:
    found = [child.digest for child in known[digest].children if child.digest in known and child.digest != digest]
    return found + [below for child in found for below in _below(child, known)]


def _names(manifest: Manifest) -> list[str]:
    return [child.digest for child in manifest.children] + ([manifest.subject.digest] if manifest.subject else [])
