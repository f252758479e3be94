"""What a tag may be given back: which held manifests there are, whose they were, and which one is meant. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.domain.desired import Desired
from controller.domain.errors import UsageError
from controller.domain.ports.stores import AuditEntry
from controller.domain.reference import HELD_PREFIX, Target, is_digest
from controller.domain.spec import Ensure


@dataclass(frozen=True, slots=True)
class Earlier:
    """A manifest that is held in a repository as `tag`.

    By the audit trail: `images` are the tags that meant it, and the rest is what ended that last. `at` is since when it is held, in seconds since
    the epoch, as far as that is known; `bytes` is all that it is made of, 0 where it was not looked up.
    """

    tag: str
    digest: str
    images: tuple[str, ...] = ()
    at: float | None = None
    actor: str = ""
    action: str = ""
    reason: str = ""
    bytes: int = 0


def earlier(target: Target, held: Mapping[str, str], current: str, trail: Sequence[AuditEntry], since: Mapping[Target, float]) -> tuple[Earlier, ...]:
    """What is held in the target's repository and is not what its tag means now, the newest first. `trail` has the newest first."""
    found = [_earlier(target, tag, digest, trail, since) for tag, digest in held.items() if digest != current and tag != target.tag]
    return tuple(sorted(found, key=lambda each: (-(each.at or 0.0), each.tag)))


def _earlier(target: Target, tag: str, digest: str, trail: Sequence[AuditEntry], since: Mapping[Target, float]) -> Earlier:
    ended = [entry for entry in trail if entry.before == digest and entry.after != digest]
    if not ended:
        return Earlier(tag, digest, at=since.get(Target(target.repository, tag)))
    own = next((entry for entry in ended if entry.image == str(target)), ended[0])
    images = tuple(sorted({entry.image for entry in ended}))
    return Earlier(tag, digest, images, own.at, own.actor, own.action, own.reason)


def meant(target: Target, candidates: Sequence[Earlier], *, held: str | None, to: str | None) -> str:
    """The digest that a person means; "" when he has to choose. One that is only known to have been another tag's is chosen by name alone.

    Raises UsageError for a choice that is none.
    """
    if held is not None and to is not None:
        raise UsageError("say --held or --to, not both")
    if to is not None:
        if not is_digest(to):
            raise UsageError(f"--to {to}: expected sha256:<64 lowercase hex digits>")
        return to
    if held is not None:
        wanted = held if held.startswith(HELD_PREFIX) else f"{HELD_PREFIX}{held}"
        found = next((each.digest for each in candidates if each.tag == wanted), None)
        if found is None:
            raise UsageError(f"--held {held}: {target.repository} has no such held tag that {target} does not mean already; --list shows them")
        return found
    own = [each for each in candidates if not each.images or str(target) in each.images]
    return own[0].digest if len(own) == 1 else ""


def check_restorable(desired: Desired, target: Target) -> None:
    """UsageError where the files say otherwise: a retired image would be deleted again, and one that is listed by digest means that one for ever."""
    absent = next((entry.image_set for entry in desired.by_target.get(target, ()) if entry.ensure is Ensure.ABSENT), None)
    if absent is not None:
        raise UsageError(f"{target}: the set {absent} says that it must be Absent: take it out of the set, then restore it")
    if target.tag.startswith(HELD_PREFIX):
        raise UsageError(f"{target}: it is named by its digest, so it means that one and no other; list it, and `wharf apply` brings it")
