"""Image references and the repositories that they map to.

The grammar is the one of the `distribution/reference` library, which Docker, containerd and the registry share: a first component is a domain
only if it has `.` or `:`, is `localhost`, or has an uppercase letter; otherwise the domain is docker.io, where one component gets `library/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from controller.domain.errors import InvalidReferenceError

DOCKER_IO = "docker.io"
DEFAULT_TAG = "latest"
HELD_PREFIX = "wharf-held-"
_DOCKER_IO_TOO = {"index.docker.io", "registry-1.docker.io"}

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PORT_WITHIN = re.compile(r"_(?=[0-9]+$)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_REPOSITORY = 255
_SHOWN = 60
_NAME_GLOB = re.compile(r"[A-Za-z0-9*?._-]+(?:/[A-Za-z0-9*?._-]+)*")
_TAG_GLOB = re.compile(r"[A-Za-z0-9*?._-]+")
_DOMAIN_GLOB = re.compile(r"(?:[A-Za-z0-9*?.-]+|\[[a-fA-F0-9:*?]+\])(?::[0-9*?]+)?")


@dataclass(frozen=True, order=True, slots=True)
class Target:
    """One tag in the registry: what a set names, what a host copy maps to."""

    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"

    def held(self, digest: str) -> Target:
        """The tag under which a manifest of this repository is held before its own tag is overwritten (law 1)."""
        return replace(self, tag=held_tag(digest))


def held_tag(digest: str) -> str:
    """`wharf-held-<12 hex>` for a digest."""
    return HELD_PREFIX + digest.partition(":")[2][:12]


@dataclass(frozen=True, order=True, slots=True)
class Reference:
    """A canonical image reference: domain, repository, and a tag, a digest or both.

    `parse("nginx")` is docker.io / library/nginx : latest. With both a tag and a digest, the digest wins.
    """

    domain: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.domain}/{self.repository}" + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """The way people write it: `nginx:1` for docker.io/library/nginx:1."""
        return self.familiar_repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar_repository(self) -> str:
        """The repository the way people write it: without docker.io and library/, unless its first part would be taken for a domain."""
        if self.domain != DOCKER_IO or split_domain(self.repository)[0]:
            return f"{self.domain}/{self.repository}"
        return self.repository.removeprefix("library/") if self.repository.count("/") == 1 else self.repository

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def registry_repository(self) -> str:
        """The repository that holds this name in the local registry when its domain is kept as the first part."""
        return f"{domain_as_component(self.domain)}/{self.repository}"


def domain_as_component(domain: str) -> str:
    """A domain as the first part of a repository name, where a registry refuses ports and uppercase letters: `host:8443` is host_8443.

    An IPv6 address loses its brackets and colons, `[::1]:5000` is x_x_1_5000. Two domains become one only when they differ in case alone.
    """
    address, bracket, port = domain.lower().rpartition("]")
    if not bracket:
        return port.replace(":", "_")
    return "_".join(part or "x" for part in address.removeprefix("[").split(":")) + port.replace(":", "_")


def name_of_place(repository: str, tag: str) -> Reference | None:
    """What a place in the registry is called on hosts, but for the address: `host_8443/x` is host:8443/x there. None if that is no name."""
    first, _, rest = repository.partition("/")
    if rest and split_domain(repository)[0]:
        repository = f"{_PORT_WITHIN.sub(':', first)}/{rest}"  # No domain has an underscore.
    try:
        return parse(f"{repository}:{tag}")
    except InvalidReferenceError:
        return None


def canonical_domain(domain: str) -> str:
    """The one name of a domain that has several: index.docker.io is docker.io. InvalidReferenceError when it is none."""
    return parse(f"{domain}/x").domain


def split_domain(text: str) -> tuple[str, str]:
    """The explicit domain of a name ("" if it has none) and the rest of it."""
    first, slash, rest = text.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost" or first.lower() != first):
        return first, rest
    return "", text


@lru_cache(maxsize=65536)
def parse(text: str) -> Reference:
    """The canonical reference that `text` means; a missing tag is `latest` unless there is a digest.

    Raises InvalidReferenceError, which names the part that is wrong.
    """
    if not text or text != text.strip():
        raise InvalidReferenceError(f"{_short(text)}, which is empty or has white space around it", "an image name")
    if _BARE_ID.fullmatch(text):
        raise InvalidReferenceError(f"{_short(text)}, which is an image Id", "an image name")
    named, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReferenceError(f"{_short(text)}, in which {_short(digest)} is no digest", "sha256:<64 lowercase hex digits>")
    domain, rest = split_domain(named)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{_short(text)}, in which {_short(tag)} is no tag", "up to 128 letters, digits, '_', '.' and '-'")
    if domain and not _DOMAIN.fullmatch(domain):
        raise InvalidReferenceError(f"{_short(text)}, in which {_short(domain)} is no registry domain", "host or host:port before the first '/'")
    if domain in _DOCKER_IO_TOO:
        domain = DOCKER_IO
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidReferenceError(f"{_short(text)}, in which {_short(repository)} is no repository", "lowercase parts separated by '/'")
    domain = domain or DOCKER_IO
    if domain == DOCKER_IO and "/" not in repository:
        repository = f"library/{repository}"
    if len(domain) + 1 + len(repository) > _MAX_REPOSITORY:
        raise InvalidReferenceError(_short(text), f"a domain and a repository of at most {_MAX_REPOSITORY} characters")
    return Reference(domain, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def parse_local(text: str) -> Target:
    """The tag in the registry that a name without a domain means: `cyroid/kali` is cyroid/kali:latest.

    Raises InvalidReferenceError, also for a name with a domain or with a digest.
    """
    domain, _ = split_domain(text.partition("@")[0])
    if domain:
        raise InvalidReferenceError(f"{_short(text)}, which has a domain", "a local name, which has none")
    reference = parse(text)
    if reference.digest:
        raise InvalidReferenceError(f"{_short(text)}, which has a digest", "a local name with a tag")
    return Target(text.partition(":")[0], reference.tag)


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 or sha512 digest."""
    return _DIGEST.fullmatch(text) is not None


class Pattern:
    """A glob over canonical names: no tag means every tag, `*` stops at `/`, `**` crosses.

    `cyroid/**` is docker.io/cyroid/**, `docker:*-dind` is docker.io/library/docker:*-dind, `**` is every image of every domain.
    """

    __slots__ = ("_match", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._match = re.compile(pattern_expression(text))

    def matches(self, reference: Reference) -> bool:
        """Whether the repository and the tag of `reference` match; its digest plays no part."""
        return self._match.fullmatch(f"{reference.domain}/{reference.repository}:{reference.tag}") is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@lru_cache(maxsize=4096)
def pattern_expression(text: str) -> str:
    """The regular expression that a glob stands for, over `domain/repository:tag`; InvalidReferenceError when it is none."""
    domain, rest = split_domain(text)
    name, colon, tag = rest.partition(":")
    if not (_NAME_GLOB.fullmatch(name) and (not colon or _TAG_GLOB.fullmatch(tag)) and (not domain or _DOMAIN_GLOB.fullmatch(domain))):
        raise InvalidReferenceError(_short(text), "a name in which '*', '**' and '?' may stand, such as cyroid/**:v*")
    if domain in _DOCKER_IO_TOO or (not domain and not name.startswith("**")):
        domain = DOCKER_IO
    if domain == DOCKER_IO and "/" not in name and not name.startswith("**"):
        name = f"library/{name}"
    full = f"{domain}/{name}" if domain else name
    return f"{_glob(full)}:{_glob(tag) if colon else '.*'}"


def _glob(text: str) -> str:
    parts = re.split(r"(\*\*|\*|\?)", text)
    return "".join({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)) for part in parts)


def _short(text: str) -> str:
    """A text as messages quote it."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")
