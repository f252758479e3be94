"""Planning alone: pure Python, no I/O."""

from __future__ import annotations

import itertools

from bench.measure import Result, in_turns
from controller.domain.desired import Desired, DesiredHost, DesiredImage, Patterns
from controller.domain.observation import Absent, Held, HostImage, HostState, Observation, Present, StoreKind, Unknown
from controller.domain.oci import digest_of
from controller.domain.plan import copies_by_target, make_plan
from controller.domain.policy import guard
from controller.domain.reference import Reference, Target, parse
from controller.domain.status import assess

IMAGES, HOSTS, TURNS = 10_000, 20, 5
ADDRESS = "127.0.0.1:5000"


def measure() -> list[Result]:
    """10,000 images on 20 hosts: plan, guard and assess."""
    desired, seen = _world()

    def ours() -> dict[str, str]:
        copies_seen = copies_by_target(desired, seen)
        plan = guard(make_plan(desired, seen, copies_seen), desired, seen, allow_deletes=IMAGES)
        assess(desired, seen, plan, {}, copies=copies_seen)
        copies = sum(len(image.tags) for fact in seen.hosts.values() if isinstance(fact, Present) for image in fact.value.images)
        return {"actions": str(len(plan.actions)), "held back": str(len(plan.held_back)), "copies on hosts": str(copies)}

    what = f"Plan, guard and assess {IMAGES:,} images of 100 sets on {HOSTS} hosts."
    return [Result("Planning", what, "under 1 s", in_turns({"wharf": ours}, TURNS))]


def _world() -> tuple[Desired, Observation]:
    """Every tenth image is on a host; what is done with them goes through all cases in turn."""
    images = [_image(number) for number in range(IMAGES)]
    hosts = tuple(
        DesiredHost(
            f"host{n}", f"unix:///host{n}", ADDRESS, Patterns(["cyroid/**"]), Patterns(["cyroid/**"]), Patterns(["cyroid/keep*"]), grace=600.0
        )
        for n in range(HOSTS)
    )
    desired = Desired(
        "default", frozenset({ADDRESS}), tuple(sorted({i.image_set for i in images})), tuple(images), hosts, upstreams=frozenset({"docker.io"})
    )
    now = 1_000_000.0
    registry = {image.target: _fact(number, now) for number, image in enumerate(images)}
    upstream = {image.target: Present(Held(digest_of(b"m%d" % number)), now) for number, image in enumerate(images) if image.upstream}
    states = {host.name: Present(_state(place, images), now) for place, host in enumerate(hosts)}
    first_seen = {
        (name, image.id, str(tag)): now - 1200 * (number % 2)
        for name, fact in states.items()
        for number, image in enumerate(fact.value.images)
        for tag in image.tags
    }
    return desired, Observation(now, registry, upstream, states, first_seen=first_seen)


def _image(number: int) -> DesiredImage:
    name = f"cyroid/{'keep' if number % 50 == 0 else 'image'}{number // 10}:{number % 10}"
    upstream = Reference("docker.io", f"org/image{number}", "1") if number % 4 == 1 else None
    return DesiredImage(f"set{number % 100:02}", name, Target(*name.rsplit(":", 1)), parse(name), upstream=upstream)


def _fact(number: int, now: float) -> Present[Held] | Absent | Unknown:
    if number % 20 == 3:
        return Absent(now)
    if number % 200 == 7:
        return Unknown("no answer", now)
    return Present(Held(digest_of(b"m%d" % number), size=1000, identities=frozenset({digest_of(b"c%d" % number)})), now)


def _state(place: int, images: list[DesiredImage]) -> HostState:
    held: list[HostImage] = []
    for number in itertools.islice(range(place, IMAGES, HOSTS), IMAGES // HOSTS):
        content = b"c%d" % (number if number % 30 else number + IMAGES)
        held.append(HostImage(digest_of(content), (images[number].host_name,), size=1000, used_by=("service",) if number % 40 == place else ()))
    return HostState(f"engine{place}", StoreKind.CLASSIC, tuple(held))
