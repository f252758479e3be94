"""The desired-state documents, as pydantic models: the two kinds Wharf and ImageSet.

The one definition of the file format: `wharf schema` and docs/desired-state.md are made from it. The models check each value by itself;
desired.py checks what documents say together.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from controller.domain.reference import Pattern, parse, split_domain

API_VERSION = "wharfinger.dev/v1alpha1"

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


def _seconds(said: Any) -> Any:
    """A duration in words as seconds; what is no string is left to pydantic's own error."""
    if not isinstance(said, str):
        raise ValueError("expected a duration such as 30s, 10m or 1h30m")  # noqa: TRY004 - pydantic turns ValueError into a placed error
    match = _DURATION.fullmatch(said)
    if not said or match is None:
        raise ValueError("expected a duration such as 30s, 10m or 1h30m")
    return sum(int(part) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True) if part)


def _pattern(said: str) -> str:
    Pattern(said)
    return said


def _reference(said: str) -> str:
    parse(said)
    return said


def _address(said: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?", said):
        raise ValueError("expected host or host:port, without a scheme")
    return said


def _url(said: str) -> str:
    match = re.fullmatch(r"https?://([^/@\s]+)/?", said)
    if match is None:
        raise ValueError("expected http://host[:port] or https://host[:port], without a path and without credentials")
    _address(match.group(1))
    return said.rstrip("/")


def _engine(said: str) -> str:
    if said != "env" and not re.fullmatch(r"unix:///\S+|(tcp|ssh|http|https)://[^\s/]\S*", said):
        raise ValueError("expected unix:///path, tcp://host:port, ssh://user@host, or env")
    return said


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "string", "pattern": "^(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?$", "examples": ["10m", "1h30m"]}),
]
PatternText = Annotated[str, AfterValidator(_pattern)]
ReferenceText = Annotated[str, AfterValidator(_reference)]
Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_url)]
Engine = Annotated[str, AfterValidator(_engine)]
Name = Annotated[str, Field(pattern=_NAME)]
FilePath = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    """Frozen, camelCase in the file, and no field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=True)


class Metadata(Model):
    """The document's name. Kubernetes' other metadata is accepted, so that the same file serves `kubectl apply`."""

    name: Name = Field(description="The document's name.")
    namespace: Name | None = Field(default=None, description="Kubernetes' namespace of an ImageSet; plays no part outside a cluster.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes' labels; play no part.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Kubernetes' annotations; play no part.")


class Access(Model):
    """Credentials by file. Without them: docker's config.json and its credential helpers."""

    username_file: FilePath | None = Field(default=None, description="A file that holds the user name.")
    password_file: FilePath | None = Field(default=None, description="A file that holds the password or token.")
    ca_file: FilePath | None = Field(default=None, description="A PEM file with the certificate authority to trust.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Access:
        if (self.username_file is None) != (self.password_file is None):
            raise ValueError("usernameFile and passwordFile go together")
        return self


class RegistrySpec(Access):
    """The one registry that stores every image."""

    url: Url = Field(description="As the controller reaches it.", examples=["http://127.0.0.1:5000"])
    aliases: tuple[Address, ...] = Field(default=(), description="Other addresses of the same registry.", strict=False)


class Upstream(Access):
    """A registry of the internet that may be pulled through. Only those listed are ever contacted."""

    domain: Address = Field(description="The domain in image names, with its port if it has one.", examples=["docker.io"])
    url: Url | None = Field(default=None, description="Where it is reached; default: https at its domain.")
    mirrors: tuple[Url, ...] = Field(default=(), description="Asked first, in order.", strict=False)


class Internet(StrEnum):
    """Which images may come from upstreams."""

    ALLOW = "Allow"
    LISTED = "Listed"
    DENY = "Deny"


class OnConflict(StrEnum):
    """What to do when the registry's tag means other content than the host's."""

    FAIL = "Fail"
    PUSH = "Push"
    KEEP = "Keep"


class Mode(StrEnum):
    """How far the controller may go."""

    OBSERVE = "Observe"
    PUSH = "Push"
    FULL = "Full"


class Ensure(StrEnum):
    """Whether an image must be in the registry or must not."""

    PRESENT = "Present"
    ABSENT = "Absent"


class Discover(Model):
    """Docker-in-Docker containers of a host, found by a label."""

    on: Name = Field(description="The host whose containers are looked at.")
    label: str = Field(min_length=1, description="The label's key, or key=value.", examples=["cyroid.range_id"])


class HostSpec(Model):
    """A Docker Engine, or the engines inside a host's containers."""

    name: Name = Field(description="The host's name, in outputs and in `on`.")
    engine: Engine | None = Field(default=None, description="unix://, tcp://, ssh://, or `env` for DOCKER_HOST.", examples=["unix:///var/run/docker.sock"])
    discover: Discover | None = Field(default=None, description="Engines in this host's containers, instead of `engine`.")
    registry_address: Address | None = Field(default=None, description="How this engine reaches the registry; default: the address in registry.url.")
    adopt: tuple[PatternText, ...] = Field(default=(), description="What appears here goes to the registry though no set lists it.", strict=False)
    absent: tuple[PatternText, ...] | None = Field(
        default=None, description="What must not linger here; default: every image that a set lists, less `present`.", strict=False
    )
    keep: tuple[PatternText, ...] = Field(default=(), description="Never touched.", strict=False)
    present: tuple[ReferenceText, ...] = Field(default=(), description="Pulled from the registry.", strict=False)
    grace_period: Duration = Field(default=600.0, description="How long an image may linger before it is evicted; default 10m.")
    on_conflict: OnConflict = Field(default=OnConflict.FAIL, description="When the registry's tag means other content than this host's.", strict=False)

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> HostSpec:
        if (self.engine is None) == (self.discover is None):
            raise ValueError("expected exactly one of engine and discover")
        return self


class Limits(Model):
    """Caps that a plan may not exceed unasked."""

    deletes: int = Field(default=10, ge=0, description="More evictions and deletions than this in one plan, and none is done.")


def _default_upstreams() -> tuple[Upstream, ...]:
    return tuple(Upstream.model_validate({"domain": domain}) for domain in ("docker.io", "ghcr.io", "quay.io"))


class WharfSpec(Model):
    """Where: one registry and its hosts."""

    registry: RegistrySpec = Field(description="The registry that stores every image.")
    upstreams: tuple[Upstream, ...] = Field(
        default_factory=_default_upstreams, description="What may be pulled through; default docker.io, ghcr.io and quay.io over https.", strict=False
    )
    internet: Internet = Field(default=Internet.ALLOW, description="Which images may come from upstreams.", strict=False)
    refresh: Duration = Field(default=3600.0, description="How often an upstream tag is looked up again; default 1h.")
    immutable_tags: tuple[PatternText, ...] = Field(default=(), description="Once held, never looked up again.", strict=False)
    hosts: tuple[HostSpec, ...] = Field(default=(), description="The engines; none: no engine is contacted.", strict=False)
    mode: Mode = Field(default=Mode.FULL, description="Observe: plan only. Push: no eviction, no deletion. Full: everything.", strict=False)
    prune: bool = Field(default=False, description="Delete what we brought and no set lists any more.")
    limits: Limits = Field(default_factory=Limits, description="Caps that a plan may not exceed unasked.")
    interval: Duration = Field(default=300.0, gt=0, description="The time between two full looks; default 5m.")


class Build(Model):
    """A folder with a Dockerfile, built on a host's engine."""

    context: FilePath = Field(description="The folder; relative to this file.")
    on: Name = Field(description="The host that builds.")
    dockerfile: FilePath | None = Field(default=None, description="Relative to the context; default Dockerfile.")
    args: dict[str, str] = Field(default_factory=dict, description="Build arguments.")
    target: str | None = Field(default=None, description="The stage to build.")
    platform: str | None = Field(default=None, description="os/architecture to build for.")


class Archive(Model):
    """A tar that `docker save` wrote, or an OCI layout; plain, gzip or zstd."""

    path: FilePath = Field(description="The tar, or the layout's folder; relative to this file.")
    name: ReferenceText | None = Field(default=None, description="Which image of the archive; default: the only one.")


class Source(Model):
    """Where an image comes from: exactly one of these."""

    build: Build | None = Field(default=None, description="A Dockerfile folder.")
    archive: Archive | None = Field(default=None, description="An image archive.")
    registry: ReferenceText | None = Field(default=None, description="Another registry's image.", examples=["quay.io/org/base:v7"])

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if sum(each is not None for each in (self.build, self.archive, self.registry)) != 1:
            raise ValueError("expected exactly one of build, archive and registry")
        if self.registry is not None and not split_domain(self.registry.partition("@")[0])[0]:
            raise ValueError(f"registry: {self.registry!r} names no domain; write docker.io/library/nginx for nginx")
        return self


class Tags(Model):
    """Which tags of a repository. Given together, all must hold."""

    semver: str | None = Field(default=None, description="A range of versions.", examples=[">=3.19"])
    newest: int | None = Field(default=None, ge=1, description="Only the newest N.")
    glob: tuple[str, ...] = Field(default=(), description="Only tags that match one of these.", strict=False)
    exclude: tuple[str, ...] = Field(default=(), description="No tag that matches one of these.", strict=False)

    @model_validator(mode="after")
    def _at_least_one(self) -> Tags:
        if self.semver is None and self.newest is None and not self.glob and not self.exclude:
            raise ValueError("expected at least one of semver, newest, glob and exclude")
        return self


class ImageEntry(Model):
    """One image, one repository's tags, or one catalog of Dockerfile folders."""

    name: ReferenceText | None = Field(default=None, description="repository:tag in the registry; with a domain: pulled through from there.")
    catalog: FilePath | None = Field(default=None, description="A folder of Dockerfile folders with image.yaml, instead of `name`.")
    on: Name | None = Field(default=None, description="The host that builds a catalog; default: the only one.")
    source: Source | None = Field(default=None, description="Where a local image comes from; default: whatever a host has under this name.")
    tags: Tags | None = Field(default=None, description="Many tags of an upstream's repository.")
    platforms: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?$")], ...] = Field(
        default=(), description="Only these platforms; default: all.", strict=False, examples=[["linux/amd64"]]
    )
    ensure: Ensure = Field(default=Ensure.PRESENT, description="Absent: deleted from the registry.", strict=False)

    @model_validator(mode="after")
    def _fits_together(self) -> ImageEntry:
        if (self.name is None) == (self.catalog is None):
            raise ValueError("expected exactly one of name and catalog")
        if self.catalog is not None and (self.source or self.tags or self.platforms or self.ensure is Ensure.ABSENT):
            raise ValueError("a catalog takes no source, tags, platforms or ensure")
        if self.name is not None:
            self._check_name(self.name)
        return self

    def _check_name(self, name: str) -> None:
        upstream = bool(split_domain(name.partition("@")[0])[0])
        if self.on is not None:
            raise ValueError("`on` goes with catalog; a build's host stands in source.build.on")
        if upstream and self.source is not None:
            raise ValueError(f"{name} is pulled through from its domain and takes no source; a local name has no domain")
        if self.tags is not None and not upstream:
            raise ValueError("`tags` needs a name with a domain, such as docker.io/library/alpine")
        if self.tags is not None and (":" in name.rpartition("/")[2] or "@" in name):
            raise ValueError("a name with `tags` takes no tag of its own")
        if not upstream and "@" in name:
            raise ValueError("a local name takes no digest; write it in source.registry")
        if self.ensure is Ensure.ABSENT and self.source is not None:
            raise ValueError("an Absent image takes no source")


class ImageSetSpec(Model):
    """What: the images of one owner."""

    wharf: Name | None = Field(default=None, description="The Wharf; the only one, if left out.")
    images: tuple[ImageEntry, ...] = Field(default=(), description="The images.", strict=False)


class Wharf(Model):
    """Where images are: one registry and its hosts. The administrator's; cluster-scoped in Kubernetes."""

    api_version: Literal["wharfinger.dev/v1alpha1"] = Field(description="The format's version.")
    kind: Literal["Wharf"] = Field(description="The document's kind.")
    metadata: Metadata = Field(description="The document's name.")
    spec: WharfSpec = Field(description="Where: one registry and its hosts.")


class ImageSet(Model):
    """What images there must be. Namespaced in Kubernetes."""

    api_version: Literal["wharfinger.dev/v1alpha1"] = Field(description="The format's version.")
    kind: Literal["ImageSet"] = Field(description="The document's kind.")
    metadata: Metadata = Field(description="The document's name.")
    spec: ImageSetSpec = Field(description="What: the images of one owner.")
