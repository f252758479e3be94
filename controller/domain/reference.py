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

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_REPOSITORY = 255


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
    return f"wharf-held-{digest.partition(':')[2][:12]}"


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
        """The repository the way people write it: without docker.io and library/."""
        if self.domain != DOCKER_IO:
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
    """A domain as the first part of a repository name: a registry refuses ports and uppercase letters there."""
    return domain.lower().replace(":", "_").replace("[", "").replace("]", "")


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
        raise InvalidReferenceError(f"{text!r} is no image reference: it is empty or has white space around it")
    if _BARE_ID.fullmatch(text):
        raise InvalidReferenceError(f"{text!r} is an image Id, not a name")
    named, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReferenceError(f"{text!r}: {digest!r} is no digest; expected sha256:<64 hex digits>")
    domain, rest = split_domain(named)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{text!r}: {tag!r} is no tag; expected up to 128 of letters, digits, '_', '.', '-'")
    if domain and not _DOMAIN.fullmatch(domain):
        raise InvalidReferenceError(f"{text!r}: {domain!r} is no registry domain")
    if domain in {"index.docker.io", "registry-1.docker.io"}:
        domain = DOCKER_IO
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidReferenceError(f"{text!r}: {repository!r} is no repository; expected lowercase parts separated by '/'")
    domain = domain or DOCKER_IO
    if domain == DOCKER_IO and "/" not in repository:
        repository = f"library/{repository}"
    if len(domain) + 1 + len(repository) > _MAX_REPOSITORY:
        raise InvalidReferenceError(f"{text!r}: longer than {_MAX_REPOSITORY} characters")
    return Reference(domain, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def parse_local(text: str) -> Target:
    """The tag in the registry that a name without a domain means: `cyroid/kali` is cyroid/kali:latest.

    Raises InvalidReferenceError, also for a name with a domain or with a digest.
    """
    domain, _ = split_domain(text.partition("@")[0])
    if domain:
        raise InvalidReferenceError(f"{text!r} has a domain; a local name has none")
    reference = parse(text)
    if reference.digest:
        raise InvalidReferenceError(f"{text!r} has a digest; a tag is named here")
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
    if not re.fullmatch(r"[A-Za-z0-9*?._/:\[\]-]+", text) or "@" in text:
        raise InvalidReferenceError(f"{text!r} is no pattern; expected a name in which '*' and '**' may stand, such as cyroid/**:v*")
    domain, rest = split_domain(text)
    name, colon, tag = rest.partition(":")
    if not name or name.startswith("/") or name.endswith("/") or "//" in name or (colon and not tag):
        raise InvalidReferenceError(f"{text!r} is no pattern; a part of it is empty")
    if not domain and not name.startswith("**"):
        domain = DOCKER_IO
        if "/" not in name:
            name = f"library/{name}"
    full = f"{domain}/{name}" if domain else name
    return f"{_glob(full)}:{_glob(tag) if colon else '.*'}"


def _glob(text: str) -> str:
    parts = re.split(r"(\*\*|\*|\?)", text)
    return "".join({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)) for part in parts)
