"""assess: the conditions of each image and of each set, in Kubernetes' form (type, status, reason, message)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.domain.actions import Action, Evict, HeldBack, Plan, Reason
from controller.domain.desired import Desired, DesiredImage, HostCopy
from controller.domain.observation import Absent, Fact, Held, Observation, Present, Unknown
from controller.domain.plan import Copies, copies_by_target
from controller.domain.ports.stores import LOAD, AuditEntry
from controller.domain.provenance import Came, provenance
from controller.domain.reference import Target
from controller.domain.spec import Ensure

UNLISTED = "(unlisted)"
"""The name under which outputs show what no set lists; no document can have it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One observation of an image. `status` is "True", "False" or "Unknown", and so `since` then, in seconds since the epoch, if that is known."""

    type: str
    status: str
    reason: str
    message: str
    since: float | None = None


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """Where one image is. `in_registry` and `needs_push` are None while that is Unknown; `came` is None while the registry does not have it.

    `notes` say what is right, and came about in another way than people expect.
    """

    name: str
    in_registry: bool | None
    on_hosts: tuple[str, ...]
    needs_push: bool | None
    digest: str
    upstream_digest: str
    conditions: tuple[Condition, ...]
    last_error: str = ""
    next_retry: float | None = None
    came: Came | None = None
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the file is fulfilled for this image."""
        return any(c.type == "Ready" and c.status == "True" for c in self.conditions)


@dataclass(frozen=True, slots=True)
class SetStatus:
    """One set: its images, and its part of the plan."""

    image_set: str
    plan: Plan
    images: tuple[ImageStatus, ...] = field(default=())

    @property
    def converged(self) -> bool:
        """Whether nothing is left to do for this set, and nothing is held back except by keep."""
        return self.plan.converged

    @property
    def ready(self) -> bool:
        """Whether this set is converged and each of its images is ready."""
        return self.converged and all(image.ready for image in self.images)


def assess(
    desired: Desired,
    seen: Observation,
    plan: Plan,
    errors: Mapping[Target, str],
    retries: Mapping[Target, float] | None = None,
    *,
    copies: Copies | None = None,
    changes: Iterable[AuditEntry] = (),
    pulls: Sequence[AuditEntry] = (),
) -> tuple[SetStatus, ...]:
    """The status of every set, in the sets' order, and of what no set lists where there is any. `copies` as make_plan takes them.

    `changes` has the newest change of each image in the registry, by which it is known how it came; `pulls` what hosts were given, the newest first.
    """
    copies = copies_by_target(desired, seen) if copies is None else copies
    rows, plans, entries = _rows_by_target(plan), plan.by_set(), _entries_by_set(desired)
    trail = {entry.image: entry for entry in changes}
    found: list[SetStatus] = []
    for name in desired.sets:
        images = (
            _image(seen, target, entry, copies.get(target, ()), rows.get(target, ()), errors.get(target, ""), retries or {}, trail)
            for target, entry in sorted(entries.get(name, {}).items())
        )
        found.append(SetStatus(name, plans.get(name, Plan()), tuple(images)))
    unlisted = [
        _image(seen, target, None, copies[target], rows.get(target, ()), errors.get(target, ""), retries or {}, trail)
        for target in sorted(copies.keys() - desired.by_target.keys())
    ]
    rest = plans.get("", Plan())
    if unlisted or rest.actions or rest.held_back or not desired.sets:
        found.append(SetStatus(UNLISTED, rest, tuple(unlisted)))
    return _noted(desired, found, _given(pulls)) if pulls else tuple(found)


def _noted(desired: Desired, sets: Iterable[SetStatus], given: Mapping[tuple[str, str], str]) -> tuple[SetStatus, ...]:
    """With what is to be said of the hosts that have an image."""
    places = {image.name: str(image.target) for image in desired.images}

    def noted(image: ImageStatus) -> ImageStatus:
        place = places.get(image.name, image.name)
        return replace(image, notes=tuple(given[place, host] for host in image.on_hosts if (place, host) in given))

    return tuple(replace(each, images=tuple(map(noted, each.images))) for each in sets)


Statuses = Mapping[tuple[str, str], Mapping[str, str]]
"""By (set, image), the status of each condition."""


def statuses(sets: Iterable[SetStatus]) -> Statuses:
    """What is remembered of conditions, so that it is known since when they are so."""
    return {(each.image_set, image.name): {c.type: c.status for c in image.conditions} for each in sets for image in each.images}


def with_times(sets: Iterable[SetStatus], since: Mapping[tuple[str, str], Mapping[str, float]]) -> tuple[SetStatus, ...]:
    """The same, each condition with since when it has its status."""
    return tuple(
        replace(each, images=tuple(replace(image, conditions=_timed(image, since.get((each.image_set, image.name), {}))) for image in each.images))
        for each in sets
    )


def _timed(image: ImageStatus, since: Mapping[str, float]) -> tuple[Condition, ...]:
    return tuple(Condition(c.type, c.status, c.reason, c.message, since.get(c.type)) for c in image.conditions)


def _entries_by_set(desired: Desired) -> dict[str, dict[Target, DesiredImage]]:
    found: dict[str, dict[Target, DesiredImage]] = {}
    for image in desired.images:
        found.setdefault(image.image_set, {})[image.target] = image
    return found


def _rows_by_target(plan: Plan) -> dict[Target, list[Action | HeldBack]]:
    rows: dict[Target, list[Action | HeldBack]] = {}
    for row in (*plan.actions, *plan.held_back):
        if row.target is not None:
            rows.setdefault(row.target, []).append(row)
    return rows


def _image(
    seen: Observation,
    target: Target,
    entry: DesiredImage | None,
    copies: Sequence[HostCopy],
    rows: Sequence[Action | HeldBack],
    error: str,
    retries: Mapping[Target, float],
    trail: Mapping[str, AuditEntry],
) -> ImageStatus:
    held, offered = seen.registry.get(target), seen.offered.get(target)
    in_registry = None if held is None or isinstance(held, Unknown) else isinstance(held, Present)
    digest = held.value.digest if isinstance(held, Present) else ""
    published = offered.value if entry and entry.upstream and isinstance(offered, Present) else None
    upstream = (published.published or published.digest) if published else ""
    needs_push = None if in_registry is None else any(not copy.host.range for copy in copies) and not in_registry
    conditions = (
        _ready(entry.ensure if entry else None, held, rows, error),
        _in_registry(held, digest),
        _host_clean(copies, rows),
        _digest_changed(seen, target, digest, published),
    )
    hosts = tuple(sorted({copy.host.name for copy in copies}))
    name, changed = str(target), trail.get(str(target))
    came = provenance(digest, entry, (changed,) if changed else ()) if digest else None
    return ImageStatus(entry.name if entry else name, in_registry, hosts, needs_push, digest, upstream, conditions, error, retries.get(target), came)


def _given(pulls: Sequence[AuditEntry]) -> dict[tuple[str, str], str]:
    """By image and host, why a host was given it as an archive, if that is how it got it last."""
    found: dict[tuple[str, str], str] = {}
    done: set[tuple[str, str]] = set()
    for entry in pulls:
        key = (entry.image, entry.host)
        if key in done:
            continue
        if entry.action == LOAD:
            found[key] = f"{entry.host} was given it by a stream, as it could not pull it"
        elif key in found and entry.error:
            found[key] += f": {entry.error}"
            done.add(key)
        else:
            done.add(key)
    return found


def _ready(ensure: Ensure | None, held: Fact[Held] | None, rows: Sequence[Action | HeldBack], error: str) -> Condition:
    blocking = [row for row in rows if not isinstance(row, HeldBack) or row.reason is not Reason.KEPT]
    if held is None or isinstance(held, Unknown):
        return Condition("Ready", "Unknown", Reason.UNKNOWN, held.why if held else "not looked at")
    if blocking:
        first = next((row for row in blocking if isinstance(row, HeldBack)), blocking[0])
        return Condition("Ready", "False", first.reason, error or first.message)
    present = isinstance(held, Present)
    if ensure is not None and present is (ensure is Ensure.ABSENT):
        return Condition("Ready", "False", Reason.RETIRED if present else Reason.MISSING, error or "the registry and the file differ")
    kept = next((row for row in rows if isinstance(row, HeldBack)), None)
    return Condition("Ready", "True", Reason.KEPT, kept.message) if kept else Condition("Ready", "True", "Converged", "as the file says")


def _in_registry(held: Fact[Held] | None, digest: str) -> Condition:
    match held:
        case Present(Held()):
            return Condition("InRegistry", "True", "Present", digest)
        case Absent():
            return Condition("InRegistry", "False", "Absent", "the registry was asked and does not have it")
        case Unknown(why):
            return Condition("InRegistry", "Unknown", Reason.UNKNOWN, why)
        case _:
            return Condition("InRegistry", "Unknown", Reason.UNKNOWN, "not looked at")


def _host_clean(copies: Sequence[HostCopy], rows: Iterable[Action | HeldBack]) -> Condition:
    lingering = [copy for copy in copies if copy.lingers and not copy.kept and not copy.needed]
    if not lingering:
        return Condition("HostClean", "True", "Clean", "no copy lingers")
    for row in rows:
        if isinstance(row, HeldBack) and row.host and row.reason is not Reason.KEPT:
            return Condition("HostClean", "False", row.reason, f"{row.host}: {row.message}")
        if isinstance(row, Evict):
            return Condition("HostClean", "False", row.reason, f"{row.host}: {row.message}")
    return Condition("HostClean", "False", Reason.LINGERS, f"on {', '.join(sorted({copy.host.name for copy in lingering}))}")


def _digest_changed(seen: Observation, target: Target, digest: str, published: Held | None) -> Condition:
    """Whether the registry has another digest than upstream: some of its platforms, or only a lossy push was possible (law 4)."""
    if published and digest == published.digest and published.filtered:
        return Condition("DigestChanged", "True", "PlatformsFiltered", f"upstream has {published.published}, with more platforms")
    if published and digest and digest != published.digest and any(seen.last_pushed.get((host, target)) == digest for host in seen.hosts):
        return Condition("DigestChanged", "True", "PushedFromHost", f"upstream has {published.published or published.digest}")
    return Condition("DigestChanged", "False", "AsPublished", "")
