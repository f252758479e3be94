"""Desired states of one image: what the imperative commands ask for. They go through the same plan, the same guards and the same laws."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from controller.domain.actions import HeldBack, Kind, Plan
from controller.domain.desired import BuildSource, Desired, DesiredHost, DesiredImage, Patterns
from controller.domain.errors import UsageError
from controller.domain.reference import Reference, Target, parse, split_domain
from controller.domain.spec import Ensure, OnConflict


def pushing(desired: Desired, name: str, host: str) -> Desired:
    """This host's image of that name shall be in the registry; without a domain under its local name, as in a set."""
    reference, found = _named(name), trusted_host(desired, host)
    target = _place(desired, reference, found, name)
    image = DesiredImage("push", name, target, reference, unlisted=target not in desired.by_target)
    return _only(desired, "push", image, replace(_untouched(found), on_conflict=found.on_conflict))


def pulling(desired: Desired, name: str, platforms: tuple[str, ...] = ()) -> Desired:
    """The registry shall have what upstream has under that name; as a set lists it, if one does. Without a domain it is docker.io's.

    Raises UsageError where the Wharf allows listed images only.
    """
    listed = next((image for image in desired.images if name in {image.name, str(image.target)} and image.upstream), None)
    if listed is not None:
        return _only(desired, "pull", replace(listed, image_set="pull", platforms=platforms or listed.platforms))
    reference = _named(name)
    target = Target(reference.registry_repository, reference.tag) if reference.tag else desired.locate(reference, adopted=False)
    if not desired.may_come(target):
        raise UsageError(f"{name}: spec.internet is Listed, and no set lists it")
    return _only(desired, "pull", DesiredImage("pull", name, target, reference, source=reference, platforms=platforms))


def bringing_back(desired: Desired, name: str, host: str) -> Desired:
    """This host shall have the registry's image of that name."""
    reference, found = _named(name), host_named(desired, host)
    image = DesiredImage("pull", name, _place(desired, reference, found, name), reference)
    return _only(desired, "pull", image, replace(_untouched(found), present=frozenset({reference})))


def building(desired: Desired, name: str, source: BuildSource) -> Desired:
    """The registry shall have what this folder is now."""
    reference, found = _named(name), trusted_host(desired, source.on)
    image = DesiredImage("build", name, _place(desired, reference, found, name), reference, source=source)
    return _only(desired, "build", image, _untouched(found))


def part(plan: Plan, kinds: Collection[Kind]) -> Plan:
    """Only these kinds of a plan, and what holds one of them back or could not be looked at."""

    def concerns(held: HeldBack) -> bool:
        return held.action in kinds or held.target is None

    return Plan(tuple(action for action in plan.actions if action.kind in kinds), tuple(filter(concerns, plan.held_back)))


def _named(name: str) -> Reference:
    reference = parse(name)
    if not reference.tag and not reference.digest:
        raise UsageError(f"{name}: name a tag")
    return reference


def _place(desired: Desired, reference: Reference, host: DesiredHost, name: str) -> Target:
    adopted = not split_domain(name.partition("@")[0])[0] or host.adopt.matches(*desired.names_of(reference))
    return desired.locate(reference, adopted=adopted)


def host_named(desired: Desired, name: str) -> DesiredHost:
    """The file's host of that name; UsageError when it has none."""
    found = next((host for host in desired.hosts if host.name == name), None)
    if found is None:
        raise UsageError(f"{name}: no such host; the file has {', '.join(host.name for host in desired.hosts) or 'none'}")
    return found


def trusted_host(desired: Desired, name: str) -> DesiredHost:
    """As host_named(), but no range: what it has can't get a shared name by a word to us (law 10)."""
    found = host_named(desired, name)
    if found.range:
        raise UsageError(f"{name}: it is a range, so what it has goes under ranges/{found.range}/ only, by `adopt`")
    return found


def _untouched(host: DesiredHost) -> DesiredHost:
    """Nothing else is asked of it."""
    return replace(host, adopt=Patterns(), absent=Patterns(), present=frozenset(), on_conflict=OnConflict.FAIL)


def _only(desired: Desired, image_set: str, image: DesiredImage, *hosts: DesiredHost) -> Desired:
    absent = [entry.image_set for entry in desired.by_target.get(image.target, ()) if entry.ensure is Ensure.ABSENT]
    if absent:
        raise UsageError(f"{image.name}: the set {absent[0]} says that it must be Absent")
    return replace(desired, sets=(image_set,), images=(image,), hosts=hosts, groups=(), rules=(), deferred=(), prune=False)
