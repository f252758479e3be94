"""Planning alone: pure Python, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from bench.measure import Result, in_turns
from controller.domain.desired import Desired, DesiredHost, DesiredImage, Patterns
from controller.domain.observation import Absent, Fact, Held, HostImage, HostState, Observation, Present, StoreKind, Unknown
from controller.domain.oci import digest_of
from controller.domain.plan import copies_by_target, make_plan
from controller.domain.policy import guard
from controller.domain.reference import Target, parse
from controller.domain.status import assess

IMAGES, SETS, HOSTS, TURNS = 10_000, 100, 20, 7
STRANGERS = 50
"""Images of each host that no document names."""

ADDRESS = "127.0.0.1:5000"
NOW = 1_000_000.0


def measure() -> list[Result]:
    """10,000 images on 20 hosts: plan, guard and assess; as on most days, and where all hosts are still full."""
    what = f"Plan, guard and assess {IMAGES:,} images of {SETS} sets on {HOSTS} hosts, with every case among them."
    contenders = {"a quarter still on hosts": _planning(4), "each still on two hosts": _planning(1)}
    return [Result("Planning", what, "under 1 s", in_turns(contenders, TURNS))]


def _planning(one_in: int) -> Callable[[], Mapping[str, str]]:
    """What Reconciler.look does between the observation and the answer."""
    desired, seen = _world(one_in)

    def work() -> Mapping[str, str]:
        copies = copies_by_target(desired, seen)
        plan = guard(make_plan(desired, seen, copies), desired, seen, allow_deletes=IMAGES * HOSTS)
        assess(desired, seen, plan, {}, copies=copies)
        return {
            "copies on hosts": f"{sum(map(len, copies.values())):,}",
            "actions": _counted(action.kind for action in plan.actions),
            "held back": _counted(held.reason for held in plan.held_back),
        }

    return work


def _counted(words: Iterable[str]) -> str:
    counts = Counter(words)
    return f"{counts.total():,} ({', '.join(f'{word} {counts[word]:,}' for word in sorted(counts))})"


def _world(one_in: int) -> tuple[Desired, Observation]:
    """One image in so many is on two of the hosts; the others are in the registry alone, where they belong."""
    images = [_image(number) for number in range(IMAGES)]
    mine = Patterns(["cyroid/**"])
    hosts = tuple(DesiredHost(f"host{n:02}", f"unix:///host{n:02}", ADDRESS, mine, mine, Patterns(["cyroid/keep*"])) for n in range(HOSTS))
    sets = tuple(sorted({image.image_set for image in images}))
    desired = Desired("default", frozenset({ADDRESS}), sets, tuple(images), hosts, upstreams=frozenset({"docker.io"}))
    lying: list[list[HostImage]] = [list(_strangers(place)) for place in range(HOSTS)]
    first_seen: dict[tuple[str, str, str], float] = {}
    for number in range(0, IMAGES, one_in):
        turn = number // one_in
        for other in range(2):
            place = (turn + other) % HOSTS
            copy = _copy(images[number], number, turn, other)
            lying[place].append(copy)
            first_seen[hosts[place].name, copy.id, str(copy.tags[0])] = NOW - (60 if turn % 10 == 6 else 86400)  # One in ten has to wait.
    states = {host.name: Present(HostState(f"engine{n}", StoreKind.CLASSIC, tuple(lying[n])), NOW) for n, host in enumerate(hosts)}
    registry = {image.target: _in_registry(number, number // one_in) for number, image in enumerate(images)}
    upstream = {image.target: _upstream(number) for number, image in enumerate(images) if image.upstream}
    return desired, Observation(NOW, registry, upstream, states, first_seen=first_seen)


def _image(number: int) -> DesiredImage:
    """Every fourth comes from upstream; every fiftieth is kept where it is."""
    name = f"cyroid/{'keep' if number % 50 == 0 else 'image'}{number // 10}:v{number % 10}"
    source = parse(f"docker.io/org/image{number}:1") if number % 4 == 1 else None
    return DesiredImage(f"set{number % SETS:02}", name, Target(*name.rsplit(":", 1)), parse(name), source=source)


def _copy(image: DesiredImage, number: int, turn: int, other: int) -> HostImage:
    """Mostly what the registry has; one in twenty is another image on the second host; one in twenty runs there."""
    content = b"other%d" if other and turn % 20 == 9 else b"%d"
    used_by = ("service",) if turn % 20 == 13 else ()
    return HostImage(digest_of(content % number), (image.host_name,), size=1000, used_by=used_by)


def _strangers(place: int) -> Iterator[HostImage]:
    for number in range(STRANGERS):
        yield HostImage(digest_of(b"stranger%d" % number), (parse(f"quay.io/other/image{number}:{place}"),), size=1000)


def _in_registry(number: int, turn: int) -> Fact[Held]:
    """One in twenty is not there yet, one in two hundred could not be told."""
    if turn % 20 == 3:
        return Absent(NOW)
    if turn % 200 == 7:
        return Unknown("no answer", NOW)
    return Present(Held(digest_of(b"m%d" % number), size=1000, identities=frozenset({digest_of(b"%d" % number)})), NOW)


def _upstream(number: int) -> Fact[Held]:
    """One in twenty is newer than the registry's."""
    newer = number % 80 == 41
    return Present(Held(digest_of(b"m%d" % (number + IMAGES * newer)), size=1000), NOW)
