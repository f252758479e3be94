"""Short ways to say what is desired and what was seen, for tests of the pure part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from controller.domain.desired import Desired, DesiredHost, DesiredImage, Patterns, Source
from controller.domain.observation import Absent, Fact, Held, HostImage, HostState, Observation, Present, StoreKind, Unknown
from controller.domain.reference import Reference, Target, parse, parse_local, split_domain
from controller.domain.spec import Ensure

NOW = 1_000_000.0
ADDRESS = "127.0.0.1:5000"


def sha(word: str) -> str:
    """A digest that is the same for the same word."""
    return f"sha256:{hashlib.sha256(word.encode()).hexdigest()}"


def image(name: str, image_set: str = "ranges", ensure: Ensure = Ensure.PRESENT, source: Source | str | None = None, **more: Any) -> DesiredImage:
    """An entry of a set, named as a file names it; a `source` that is a text is source.registry."""
    if split_domain(name.partition("@")[0])[0]:
        reference = parse(name)
        upstream = None if ensure is Ensure.ABSENT else reference
        return DesiredImage(image_set, name, Target(reference.registry_repository, reference.tag), reference, ensure, upstream, **more)
    return DesiredImage(image_set, name, parse_local(name), parse(name), ensure, parse(source) if isinstance(source, str) else source, **more)


def host(
    name: str = "local", *, absent: Iterable[str] | None = None, adopt: Iterable[str] = (), keep: Iterable[str] = (), **more: Any
) -> DesiredHost:
    """A host without a grace period, unless `grace` is given."""
    more.setdefault("grace", 0.0)
    present = frozenset(parse(text) for text in more.pop("present", ()))
    patterns = None if absent is None else Patterns(absent)
    return DesiredHost(name, f"unix:///{name}", ADDRESS, Patterns(adopt), patterns, Patterns(keep), present, **more)


def desired(images: Iterable[DesiredImage] = (), hosts: Iterable[DesiredHost] = (), **more: Any) -> Desired:
    """A desired state; its sets are those of its images."""
    images = tuple(images)
    more.setdefault("upstreams", frozenset({"docker.io", "quay.io"}))
    more.setdefault("sets", tuple(sorted({each.image_set for each in images})))
    return Desired("default", frozenset({ADDRESS}), images=images, hosts=tuple(hosts), **more)


def on_host(word: str, *tags: str, digests: Iterable[str] = (), **more: Any) -> HostImage:
    """An image on a classic engine: its Id is sha(word)."""
    return HostImage(sha(word), tuple(parse(tag) for tag in tags), tuple(map(_by_digest, digests)), more.pop("size", 100), **more)


def _by_digest(text: str) -> Reference:
    return parse(text)


def engine(*images: HostImage, store: StoreKind = StoreKind.CLASSIC, engine_id: str = "engine") -> HostState:
    """What an engine holds."""
    return HostState(engine_id, store, images)


def held(word: str) -> Held:
    """A tag of the registry that means the image whose config digest is sha(word); its manifest digest and folder hash are sha("m:" + word)."""
    return Held(sha(f"m:{word}"), "application/vnd.oci.image.manifest.v1+json", 100, frozenset({sha(word)}), sha(f"m:{word}"))


def seen(
    registry: Mapping[str, str | None] | None = None,
    hosts: Mapping[str, HostState | None] | None = None,
    offered: Mapping[str, str | None] | None = None,
    **more: Any,
) -> Observation:
    """One look. By name, the word of what is held: None is Absent, "?" Unknown; a host that is None is Unknown."""
    return Observation(
        NOW,
        {_target(name): _fact(word) for name, word in (registry or {}).items()},
        {_target(name): _fact(word) for name, word in (offered or {}).items()},
        {name: Present(state, NOW) if state else Unknown("no answer", NOW) for name, state in (hosts or {}).items()},
        more.pop("origins", {}),
        more.pop("elsewhere", {}),
        more.pop("first_seen", {}),
        {(name, _target(target)): sha(f"m:{word}") for (name, target), word in more.pop("last_pushed", {}).items()},
        **more,
    )


def _target(name: str) -> Target:
    return Target(*name.rsplit(":", 1))


def _fact(word: str | None) -> Fact[Held]:
    if word is None:
        return Absent(NOW)
    return Unknown("no answer", NOW) if word == "?" else Present(held(word), NOW)
