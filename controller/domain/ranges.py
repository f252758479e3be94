"""Ranges: engines whose people may be hostile. What is one, what it is called, and where what it alone vouches for may go (law 10). Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from controller.domain.actions import Kind, Reason
from controller.domain.desired import Deferred, DesiredHost, RangeGroup
from controller.domain.reference import DOCKER_IO, Reference, Target, held_tag

FOLDER = "ranges"
"""The first part of every repository that holds what only a range vouches for."""

RANGE_ID = "up to 63 lowercase letters and digits, with '.', '_' or '-' between them"
_ID = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_LONGEST = 63
_SHOWN = 40


def is_range_id(text: str) -> bool:
    """Whether it can be a part of a repository's name. Labels are written by whom it may concern, so nothing else is taken for an id."""
    return len(text) <= _LONGEST and _ID.fullmatch(text) is not None


def is_found(host: str) -> bool:
    """Whether a host of this name was found by its label: no name in a file has a slash."""
    return "/" in host


@dataclass(frozen=True, slots=True)
class Container:
    """A running container that has a group's label. `label` is the label's value, `addresses` are those of its networks, by name."""

    id: str
    name: str
    label: str
    addresses: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a group's containers are: hosts; and `others`, which can't be looked at or are no ranges, with why."""

    hosts: tuple[DesiredHost, ...]
    others: tuple[Deferred, ...]


def found_in(group: RangeGroup, containers: Sequence[Container], taken: Collection[str]) -> Found:
    """The ranges of a group. An id that is none, is another's, or stands on several containers makes no range; `taken` are those of others."""
    hosts: list[DesiredHost] = []
    others: list[Deferred] = []
    ids = {each: each.name if "=" in group.label else each.label for each in sorted(containers, key=lambda each: (each.label, each.name))}
    times = Counter(ids.values())
    for container, range_id in ids.items():
        said = f"the container {_brief(container.name)} on {group.on}"
        if not is_range_id(range_id):
            others.append(_row(group, "", Reason.REFUSED, f"{said} says that it is the range {_brief(range_id)}; an id is {RANGE_ID}"))
        elif times[range_id] > 1 or range_id in taken:
            rivals = f"{times[range_id]} containers have" if times[range_id] > 1 else "another range has"
            others.append(_row(group, range_id, Reason.REFUSED, f"{said} is not taken for it: {rivals} this id, and nobody can tell whose it is"))
        elif not (address := _address(group, container)):
            where = f"in the network {group.network}" if group.network else "of its own"
            others.append(_row(group, range_id, Reason.UNKNOWN, f"{said} has no network address {where}, so its engine can't be reached"))
        else:
            engine = f"tcp://[{address}]:{group.port}" if ":" in address else f"tcp://{address}:{group.port}"
            hosts.append(replace(group.like, name=f"{group.name}/{range_id}", engine=engine, range=range_id))
    return Found(tuple(hosts), tuple(others))


def _row(group: RangeGroup, range_id: str, reason: Reason, message: str) -> Deferred:
    return Deferred("", "*", Kind.PULL, reason, message, f"{group.name}/{range_id}" if range_id else group.name)


def _address(group: RangeGroup, container: Container) -> str:
    if group.network:
        return dict(container.addresses).get(group.network, "")
    return next((address for _, address in sorted(container.addresses) if address), "")


def _brief(text: str) -> str:
    """What others wrote, as messages quote it."""
    return ascii(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def is_own(place: str) -> bool:
    """Whether a place in the registry is one of what only a range vouches for."""
    return place.startswith(f"{FOLDER}/")


def own_place(range_id: str, tag: Reference, addresses: Collection[str]) -> Target:
    """Where a range's image is kept that nobody else vouches for: under its own folder, by the name that it has there."""
    elsewhere = tag.familiar_repository if tag.domain == DOCKER_IO else tag.registry_repository
    repository = tag.repository if tag.domain in addresses else elsewhere
    return Target(f"{FOLDER}/{range_id}/{repository}", tag.tag or held_tag(tag.digest))
