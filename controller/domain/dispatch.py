"""What a repository name in a request means: places in the registry, and where each may be pulled through from (issue 5, "Pull through").

| a request for | comes with | means |
| --- | --- | --- |
| `docker.io/library/nginx` | | the same repository; pulled through from docker.io |
| `library/nginx` | `ns=docker.io` | `docker.io/library/nginx`; pulled through from docker.io |
| `library/nginx` | nothing, by a registry mirror | a local `library/nginx` or `nginx`; else as above |
| `cyroid/kali`, which is reserved | either | the local `cyroid/kali`, and nothing else: never a stranger's image |
| `some/name` | `ns=` an address of the registry | the local one |
| `quay.io/org/app` | `quay.io` is no upstream | the local repository of that name |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from controller.domain.desired import Desired
from controller.domain.errors import InvalidReferenceError, WharfError
from controller.domain.reference import DOCKER_IO, Reference, canonical_domain, domain_as_component, parse, pattern_expression


class ForbiddenError(WharfError):
    """A rule of the file forbids it; the text says which."""


class NeedsLoginError(WharfError):
    """Only who says who they are gets that; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of the registry. `upstream`, which has no tag, is where it is pulled through from; None: it is local.

    `guessed`: nobody said that it is that upstream's; the name may as well be one that is about to be pushed.
    """

    repository: str
    upstream: Reference | None = None
    guessed: bool = False


@dataclass(frozen=True)
class Dispatch:
    """The rules of one desired state, for many requests."""

    desired: Desired

    def places(self, repository: str, ns: str = "", *, known: bool = True) -> tuple[Place, ...]:
        """Where a pull looks, in this order. ForbiddenError for an `ns` that is no upstream.

        For who is not `known`, without what is private; NeedsLoginError when nothing else is meant.
        """
        meant = self._meant(repository, ns)
        open_to_all = tuple(place for place in meant if known or not self.is_private(place.repository))
        if meant and not open_to_all:
            self.check_known(meant[0].repository)
        return open_to_all

    def is_private(self, repository: str) -> bool:
        """Whether that is under an upstream whose images are not for everyone."""
        return self._domains.get(repository.partition("/")[0]) in self.desired.private

    def check_known(self, repository: str) -> None:
        """NeedsLoginError where who did not say who they are may not read."""
        if self.is_private(repository):
            raise NeedsLoginError(f"{repository} is not for everyone: log in first (spec.upstreams: private)")

    def _meant(self, repository: str, ns: str) -> tuple[Place, ...]:
        if ns and ns not in self.desired.addresses:
            return self._of_domain(_canonical(ns), repository)
        first, slash, rest = repository.partition("/")
        domain = self._domains.get(first)
        if slash and domain:
            name = _named(domain, rest)
            return (Place(name.registry_repository, name),) if name else (Place(repository),)
        local = tuple(Place(each) for each in _local_names(repository))
        name = None if ns or _is_domain(first) or self.reserved(repository) else _named(DOCKER_IO, repository)
        if name is None or DOCKER_IO not in self.desired.upstreams:
            return local
        return (*local, Place(name.registry_repository, name, guessed=True))

    def pushed_to(self, repository: str) -> str:
        """Where a push goes; ForbiddenError under an upstream's domain, where only what that upstream published may be (law 4)."""
        domain = self._domains.get(repository.partition("/")[0])
        if domain:
            raise ForbiddenError(f"{repository} belongs to the upstream {domain}: what it publishes is kept there, and nothing else is pushed to it")
        return repository

    def reserved(self, repository: str) -> bool:
        """Whether a set lists this repository or its namespace, or a host adopts it: then it is never asked for upstream."""
        names = _local_names(repository)
        if any(name in self._listed or _namespace(name) in self._namespaces for name in names):
            return True
        canonical = _named(DOCKER_IO, repository)
        return canonical is not None and self._adopted.fullmatch(f"{canonical.domain}/{canonical.repository}:") is not None

    def _of_domain(self, domain: str, repository: str) -> tuple[Place, ...]:
        if domain not in self.desired.upstreams:
            raise ForbiddenError(f"{domain} is not under spec.upstreams")
        if domain == DOCKER_IO and self.reserved(repository):
            return tuple(Place(each) for each in _local_names(repository))
        name = _named(domain, repository)
        return (Place(name.registry_repository, name),) if name else ()

    @cached_property
    def _domains(self) -> dict[str, str]:
        """The upstreams, by the first part that their repositories have here."""
        return {domain_as_component(domain): domain for domain in self.desired.upstreams}

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(image.target.repository for image in self.desired.images if not self._of_upstream(image.target.repository))

    @cached_property
    def _namespaces(self) -> frozenset[str]:
        patterns = {text.partition(":")[0].removeprefix("docker.io/") for text in self._adopts}
        literal = {text for text in patterns if not re.search(r"[*?]", text)}
        return frozenset(_namespace(name) for name in self._listed | literal) - {"", "library"}

    @cached_property
    def _adopted(self) -> re.Pattern[str]:
        """All that a host adopts, whatever its tag."""
        return _any_of(pattern_expression(_without_tag(text)) for text in self._adopts)

    @property
    def _adopts(self) -> list[str]:
        """What a range adopts becomes nobody else's name, so it reserves none."""
        return [text for host in self.desired.hosts if not host.range for text in host.adopt.texts]

    def _of_upstream(self, repository: str) -> bool:
        return repository.partition("/")[0] in self._domains


def _any_of(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(expressions) or r"(?!)")


def _without_tag(pattern: str) -> str:
    head, slash, last = pattern.rpartition("/")
    return head + slash + last.partition(":")[0]


def _canonical(ns: str) -> str:
    try:
        return canonical_domain(ns)
    except InvalidReferenceError:
        return ns


def _named(domain: str, repository: str) -> Reference | None:
    try:
        found = parse(f"{domain}/{repository}")
    except InvalidReferenceError:
        return None
    return Reference(found.domain, found.repository)


def _local_names(repository: str) -> tuple[str, ...]:
    """`library/nginx` is how an engine asks a mirror for `nginx`, which is what a set lists."""
    rest = repository.removeprefix("library/")
    return (repository, rest) if rest != repository and "/" not in rest else (repository,)


def _namespace(repository: str) -> str:
    return repository.rpartition("/")[0]


def _is_domain(first: str) -> bool:
    return any(c in first for c in ".:") or first == "localhost"
