"""Why one image is where it is: what was seen of it, what asks for it, and what comes next. Pure; the surfaces only show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.actions import Plan
from controller.domain.case import short
from controller.domain.desired import Desired, DesiredHost, DesiredImage
from controller.domain.observation import Absent, Fact, Held, HostImage, HostState, Observation, Present, Unknown
from controller.domain.ports.stores import AuditEntry
from controller.domain.provenance import Came, provenance, source_words
from controller.domain.reference import Pattern, Reference, Target, held_tag, name_of_place
from controller.domain.spec import Ensure
from controller.domain.status import ImageStatus

IMAGE_SET = "ImageSet"
LAST_DONE = 5
"""So many entries of the audit trail are told."""


@dataclass(frozen=True, slots=True)
class OnHost:
    """What one host has of it: under which names, which Ids, and which containers use them. `unknown` says why nothing is known."""

    host: str
    names: tuple[str, ...] = ()
    image_ids: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """Something of the files that is about this image: a set, or a pattern of a host. `words` are for people."""

    by: str
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it. `held_as` is a further tag that keeps what the registry has; `earlier` is what is held of its repository besides, by tag.

    `status` is None where nothing asks for it and no host has it. `retried_by`, in seconds since the epoch, is when a running controller has tried
    it again at the latest.
    """

    target: Target
    registry: Fact[Held]
    held_as: str
    earlier: Mapping[str, str]
    hosts: tuple[OnHost, ...]
    asking: tuple[Asking, ...]
    offer: str
    plan: Plan
    status: ImageStatus | None
    came: Came | None
    last_error: str
    retried_by: float | None
    trail: tuple[AuditEntry, ...]
    unreachable: str = ""

    @property
    def settled(self) -> bool:
        """Nothing to do, nothing held back except by keep, and nothing unknown."""
        return self.plan.converged and not isinstance(self.registry, Unknown) and not any(each.unknown for each in self.hosts)

    @property
    def nowhere(self) -> bool:
        """No set lists it, and neither the registry nor a host has it: a typing error, perhaps."""
        listed = any(each.by == IMAGE_SET for each in self.asking)
        return not listed and isinstance(self.registry, Absent) and not any(each.names or each.unknown for each in self.hosts)

    @property
    def digest(self) -> str:
        """What the registry's tag means; "" while that is nothing, or not known."""
        return self.registry.value.digest if isinstance(self.registry, Present) else ""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about one image: a look at it, what is held of its repository by tag, and what the store remembers."""

    seen: Observation
    plan: Plan
    status: ImageStatus | None
    held: Mapping[str, str]
    trail: Sequence[AuditEntry]
    last_error: str


def explained(desired: Desired, target: Target, found: Found, *, longest_pause: float) -> Explanation:
    """Put together what was found out about this place. `longest_pause` is how long a controller waits at most before it tries again."""
    seen, entries = found.seen, desired.by_target.get(target, ())
    registry = seen.registry.get(target) or Unknown("the registry was not asked for it", seen.now)
    digest = registry.value.digest if isinstance(registry, Present) else ""
    own = held_tag(digest) if digest else ""
    failed = next((entry.at for entry in found.trail if entry.error), None) if found.last_error else None
    return Explanation(
        target=target,
        registry=registry,
        held_as=own if digest and own != target.tag and found.held.get(own) == digest else "",
        earlier={tag: each for tag, each in found.held.items() if each != digest},
        hosts=tuple(_on_host(desired, host, seen.hosts.get(host.name), target) for host in desired.hosts),
        asking=(*_sets(entries), *_patterns(desired, seen, target, entries)),
        offer=_offer(desired, entries, seen.offered.get(target), digest),
        plan=found.plan,
        status=found.status,
        came=provenance(digest, entries[0] if entries else None, found.trail) if digest else None,
        last_error=found.last_error,
        retried_by=failed + longest_pause if failed is not None and failed + longest_pause > seen.now else None,
        trail=tuple(found.trail[:LAST_DONE]),
        unreachable=seen.unreachable,
    )


def _images(desired: Desired, host: DesiredHost, state: HostState, target: Target) -> Iterator[tuple[HostImage, Reference]]:
    """Every tag of a host that means this place, whether something names it or not."""
    for image in state.images:
        for tag in image.tags:
            if desired.place_of(host, tag) == target:
                yield image, tag


def _on_host(desired: Desired, host: DesiredHost, fact: Fact[HostState] | None, target: Target) -> OnHost:
    if not isinstance(fact, Present):
        return OnHost(host.name, unknown=fact.why if isinstance(fact, Unknown) else "it was not looked at")
    found = list(_images(desired, host, fact.value, target))
    return OnHost(
        host.name,
        tuple(tag.familiar for _, tag in found),
        tuple(dict.fromkeys(image.id for image, _ in found)),
        tuple(sorted({user for image, _ in found for user in image.used_by})),
    )


def _sets(entries: Sequence[DesiredImage]) -> Iterator[Asking]:
    for entry in entries:
        if entry.ensure is Ensure.ABSENT:
            yield Asking(IMAGE_SET, entry.image_set, f"the set {entry.image_set} lists it as Absent: it must leave the registry")
        else:
            yield Asking(IMAGE_SET, entry.image_set, f"the set {entry.image_set} lists it; it comes from {source_words(entry.source)}")


def _patterns(desired: Desired, seen: Observation, target: Target, entries: Sequence[DesiredImage]) -> Iterator[Asking]:
    """The first pattern of each field of a host that names it, by the names that the host has, else by those that it would have."""
    for host in desired.hosts:
        fact = seen.hosts.get(host.name)
        tags = [tag for _, tag in _images(desired, host, fact.value, target)] if isinstance(fact, Present) else []
        names = [name for tag in tags or _would_be(target, entries) for name in desired.names_of(tag)]
        for field, patterns, meaning in (
            ("keep", host.keep.texts, "it is never touched there"),
            ("present", tuple(sorted(each.familiar for each in host.present if each in names)), "it must be there"),
            ("absent", host.absent.texts if host.absent else (), "it must not linger there"),
            ("adopt", host.adopt.texts, "what appears there goes to the registry"),
        ):
            text = next((text for text in patterns if any(Pattern(text).matches(name) for name in names)), None)
            if text is not None:
                yield Asking(field, host.name, f"`{field}` of {host.name} names it ({text}): {meaning}")
        if host.absent is None and entries and not any(name in host.present for name in names):
            yield Asking("absent", host.name, f"{host.name} has no `absent`, so what a set lists must not linger there")


def _would_be(target: Target, entries: Sequence[DesiredImage]) -> list[Reference]:
    name = name_of_place(target.repository, target.tag)
    return [entry.host_name for entry in entries] or ([] if name is None else [name])


def _offer(desired: Desired, entries: Sequence[DesiredImage], fact: Fact[Held] | None, digest: str) -> str:
    """What its source has, in words; "" where it has none."""
    source = entries[0].source if entries else None
    if source is None:
        return ""
    where = source_words(source)
    match fact:
        case Present(offered):
            what = f"{where} has {short(offered.published or offered.digest)}"
            return f"{what}, as the registry" if digest and offered.digest == digest else what
        case Absent():
            return f"{where} does not have it" if isinstance(source, Reference) else f"{where} is not there"
        case Unknown(why):
            return f"{where} could not be asked: {why}"
        case _ if isinstance(source, Reference) and not desired.may_ask(source.domain):
            return f"{where} may not be asked: spec.internet is Deny, or {source.domain} is not under spec.upstreams"
        case _:
            return f"{where} was not asked: immutableTags names it, or the registry did not answer"
