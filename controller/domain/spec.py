"""The desired-state documents, as pydantic models: the two kinds Wharf and ImageSet.

The one definition of the file format: `wharf schema` and docs/desired-state.md are made from it. The models check each value by itself;
compile.py checks what documents say together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from controller.domain.reference import split_domain
from controller.domain.texts import (
    Address,
    Duration,
    Engine,
    FilePath,
    Listen,
    MisfitError,
    Name,
    PatternText,
    Platform,
    ReferenceText,
    RegistryUrl,
    TagGlob,
    Url,
    VersionRange,
)

API_VERSION = "wharfinger.dev/v1alpha1"


class Model(BaseModel):
    """Frozen, camelCase in the file, and no field that is not known. Built when a file is read, as not every command reads one."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=True, defer_build=True)


class Metadata(Model):
    """The document's name, and what else people write there for Kubernetes, so that the same file serves `kubectl apply`."""

    name: Name = Field(description="The document's name.")
    namespace: Name | None = Field(default=None, description="Kubernetes' namespace of an ImageSet; plays no part outside a cluster.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes' labels; play no part.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Kubernetes' annotations; play no part.")


class Access(Model):
    """Credentials by file. Without them: docker's config.json and its credential helpers."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"usernameFile": ["passwordFile"], "passwordFile": ["usernameFile"]}})

    username_file: FilePath | None = Field(default=None, description="A file that holds the user name.")
    password_file: FilePath | None = Field(default=None, description="A file that holds the password or token.")
    ca_file: FilePath | None = Field(default=None, description="A PEM file with the certificate authority to trust.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Access:
        if (self.username_file is None) != (self.password_file is None):
            given, missing = ("passwordFile", "usernameFile") if self.username_file is None else ("usernameFile", "passwordFile")
            raise MisfitError("both or none", f"{given} without {missing}", given)
        return self


class RegistrySpec(Access):
    """The one registry that stores every image."""

    url: RegistryUrl = Field(description="As the controller reaches it.")
    aliases: tuple[Address, ...] = Field(default=(), description="Other addresses of the same registry.", strict=False)


class Upstream(Access):
    """A registry of the internet that may be pulled through. Only those listed are ever contacted."""

    domain: Address = Field(description="The domain in image names, with its port if it has one.")
    url: Url | None = Field(default=None, description="Where it is reached; default: https at its domain.")
    mirrors: tuple[Url, ...] = Field(default=(), description="Asked first, in order.", strict=False)
    private: bool = Field(default=False, description="The gateway gives what is this upstream's to users of its `htpasswdFile` only.")


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
    """Ranges: Docker-in-Docker containers of a host, found by a label. Each is a host of its own, `<name>/<id>`."""

    on: Name = Field(description="The host whose running containers are looked at.")
    label: str = Field(min_length=1, description="The label's key, whose value is the range's id; or key=value, and the container's name is its id.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Where the engines listen; default: 2375, with `tls` 2376.")
    network: str | None = Field(
        default=None, min_length=1, description="The network by whose address they are reached; default: the container's first by name."
    )


class TlsSpec(Model):
    """How an engine on tcp:// is spoken to by TLS, as docker's ca.pem, cert.pem and key.pem."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"certFile": ["keyFile"], "keyFile": ["certFile"]}})

    ca_file: FilePath | None = Field(default=None, description="A PEM file with the authority of the engine's certificate; default: the system's.")
    cert_file: FilePath | None = Field(default=None, description="A PEM file with the certificate that is shown to the engine.")
    key_file: FilePath | None = Field(default=None, description="A PEM file with that certificate's key.")

    @model_validator(mode="after")
    def _both_or_none(self) -> TlsSpec:
        if (self.cert_file is None) != (self.key_file is None):
            given, missing = ("keyFile", "certFile") if self.cert_file is None else ("certFile", "keyFile")
            raise MisfitError("both or none", f"{given} without {missing}", given)
        return self


class HostSpec(Model):
    """A Docker Engine, or the engines inside a host's containers: exactly one of `engine` and `discover`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["engine"]}, {"required": ["discover"]}]})

    name: Name = Field(description="The host's name, in outputs and in `on`.")
    engine: Engine | None = Field(default=None, description="unix://, tcp://, ssh://, or `env` for DOCKER_HOST.")
    tls: TlsSpec | None = Field(default=None, description="For tcp://, https:// and `discover`; default: none. `env` has its own: DOCKER_CERT_PATH.")
    discover: Discover | None = Field(default=None, description="Engines in this host's containers, instead of `engine`.")
    range: bool = Field(
        default=False,
        description="This `engine` is a range: its people are not trusted, and what it alone vouches for goes under `ranges/<name>/`. "
        "What `discover` finds always is.",
    )
    registry_address: Address | None = Field(default=None, description="How this engine reaches the registry; default: the address in registry.url.")
    adopt: tuple[PatternText, ...] = Field(
        default=(), description="What appears here goes to the registry though no set lists it; from a range under `ranges/<id>/`.", strict=False
    )
    absent: tuple[PatternText, ...] | None = Field(
        default=None,
        description="What must not linger here; default: every image that a set lists, less `present`; in a range nothing.",
        strict=False,
    )
    keep: tuple[PatternText, ...] = Field(default=(), description="Never touched.", strict=False)
    present: tuple[ReferenceText, ...] = Field(default=(), description="Pulled from the registry.", strict=False)
    grace_period: Duration = Field(default=600.0, description="How long an image may linger before it is evicted.")
    on_conflict: OnConflict = Field(
        default=OnConflict.FAIL, description="When the registry's tag means other content than this host's.", strict=False
    )

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> HostSpec:
        if self.engine is None and self.discover is None:
            raise MisfitError("exactly one of them", "neither engine nor discover")
        if self.engine is not None and self.discover is not None:
            raise MisfitError("exactly one of them", "both engine and discover", "discover")
        if self.tls is not None and self.engine is not None and not self.engine.startswith(("tcp://", "https://")):
            raise MisfitError("it beside an engine on tcp:// or https://, or discover", f"tls for {self.engine}", "tls")
        return self


class Limits(Model):
    """Caps that a plan may not exceed unasked."""

    deletes: int = Field(default=10, ge=0, description="More evictions and deletions than this in one plan, and none is done.")


class RegistryNotifications(Model):
    """What the registry tells of itself, by `notifications.endpoints` in its configuration."""

    token_file: FilePath | None = Field(
        default=None, description="A file with the token that the registry must send as `Authorization: Bearer ...`; default: none is asked for."
    )


class Web(Model):
    """The HTTP server of `wharf run`: health, metrics, registry notifications. It asks nobody who they are, so it belongs on loopback."""

    listen: Listen = Field(default="127.0.0.1:9090", description="Where it listens.")
    notifications: RegistryNotifications = Field(default_factory=RegistryNotifications, description="Who may send notifications.")


class Trouble(StrEnum):
    """What people are told of, when it begins and when it is over."""

    FAILURE = "Failure"
    """What has to be done for an image fails."""
    NEEDS_PERSON = "NeedsPerson"
    """Something is held back that only a person can resolve: Conflict, TooManyDeletes, RetiredOnHost."""
    UNREACHABLE = "Unreachable"
    """The registry or a host does not answer, or can't be trusted to be itself."""
    FROM_INTERNET = "FromInternet"
    """A client pulled something from the internet through the gateway. It has no end: what comes is news."""


class Notify(Model):
    """Who is told when something goes wrong while `wharf run` works, and when it is over."""

    url_file: FilePath = Field(description="A file with an Apprise URL a line: mail, chat, webhook. A file, because such URLs hold secrets.")
    on: tuple[Annotated[Trouble, Field(strict=False)], ...] = Field(
        default=tuple(Trouble),
        description="Failure: what has to be done for an image fails. NeedsPerson: a conflict, or too many deletions. "
        "Unreachable: the registry or a host does not answer. The end of each is told, too. "
        "FromInternet: what clients pulled from the internet through the gateway.",
        strict=False,
    )


class Who(StrEnum):
    """Who may do something through the gateway."""

    ANYONE = "Anyone"
    USERS = "Users"
    """The users of `htpasswdFile`."""


class Redirect(StrEnum):
    """What the gateway sends clients on to the registry behind it for."""

    NONE = "None"
    BLOBS = "Blobs"


class GatewaySpec(Model):
    """One address to push to and to pull through, served by `wharf run`."""

    listen: Listen = Field(default="127.0.0.1:5001", description="Where it listens.")
    redirect: Redirect = Field(
        default=Redirect.NONE,
        description="Blobs: clients are sent to `registry.url` for what it has. Faster, and goes around `pull` and `push`.",
        strict=False,
    )
    htpasswd_file: FilePath | None = Field(default=None, description="Users and their passwords, as `htpasswd -B` writes them.")
    pull: Who | None = Field(default=None, description="Who may pull. Default: Anyone on a loopback address, else Users.", strict=False)
    push: Who | None = Field(default=None, description="Who may push and delete. Default: Anyone on a loopback address, else Users.", strict=False)

    @model_validator(mode="after")
    def _has_users(self) -> GatewaySpec:
        if Who.USERS in {self.pull_by, self.push_by} and self.htpasswd_file is None:
            raise MisfitError(
                "htpasswdFile, as users may pull or push; or `pull: Anyone` and `push: Anyone`", f"{self.listen} without users", "htpasswdFile"
            )
        return self

    @property
    def pull_by(self) -> Who:
        """Who may pull."""
        return self.pull or self._by_default

    @property
    def push_by(self) -> Who:
        """Who may push and delete."""
        return self.push or self._by_default

    @property
    def _by_default(self) -> Who:
        host = self.listen.rpartition(":")[0].strip("[]")
        return Who.ANYONE if host in {"localhost", "::1"} or host.startswith("127.") else Who.USERS


def _default_upstreams() -> tuple[Upstream, ...]:
    return tuple(Upstream.model_validate({"domain": domain}) for domain in ("docker.io", "ghcr.io", "quay.io"))


class WharfSpec(Model):
    """Where: one registry and its hosts."""

    registry: RegistrySpec = Field(description="The registry that stores every image.")
    upstreams: tuple[Upstream, ...] = Field(
        default_factory=_default_upstreams, description="What may be pulled through. Only these domains are ever contacted.", strict=False
    )
    internet: Internet = Field(default=Internet.ALLOW, description="Which images may come from upstreams.", strict=False)
    refresh: Duration = Field(
        default=3600.0, description="How often an upstream tag is looked up again, over restarts too; `--refresh` does it at once."
    )
    immutable_tags: tuple[PatternText, ...] = Field(default=(), description="Once held, never looked up again.", strict=False)
    hosts: tuple[HostSpec, ...] = Field(default=(), description="The engines. Without any, no engine is contacted.", strict=False)
    mode: Mode = Field(default=Mode.FULL, description="Observe: plan only. Push: no eviction, no deletion. Full: everything.", strict=False)
    prune: bool = Field(default=False, description="Delete what we brought and no set lists any more.")
    keep_held: Duration = Field(
        default=2_592_000.0, gt=0, description="How long what was overwritten or deleted in the registry can be restored, at least."
    )
    limits: Limits = Field(default_factory=Limits, description="Caps that a plan may not exceed unasked.")
    interval: Duration = Field(default=300.0, gt=0, description="The time between two full looks.")
    web: Web | None = Field(default=None, description="The HTTP server of `wharf run`; default: no port is opened.")
    notify: tuple[Notify, ...] = Field(default=(), description="Who is told when something goes wrong while `wharf run` works.", strict=False)
    gateway: GatewaySpec | None = Field(default=None, description="One address to push to and to pull through; default: none is served.")

    @model_validator(mode="after")
    def _knows_who_may(self) -> WharfSpec:
        private = [upstream.domain for upstream in self.upstreams if upstream.private]
        if private and self.gateway is not None and self.gateway.htpasswd_file is None:
            raise MisfitError(f"htpasswdFile in it, as {private[0]} is private", "a gateway without users", "gateway")
        return self


class Build(Model):
    """A folder with a Dockerfile, built on a host's engine."""

    context: FilePath = Field(description="The folder.")
    on: Name = Field(description="The host that builds.")
    dockerfile: FilePath | None = Field(default=None, description="Relative to the context; default Dockerfile.")
    args: dict[str, str] = Field(default_factory=dict, description="Build arguments.")
    target: str | None = Field(default=None, description="The stage to build.")
    platform: Platform | None = Field(default=None, description="What to build for; default: the engine's own.")


class Archive(Model):
    """A tar that `docker save` wrote, or an OCI layout; plain, gzip or zstd."""

    path: FilePath = Field(description="The tar, or the layout's folder.")
    name: ReferenceText | None = Field(default=None, description="Which image of the archive; default: the only one.")


class Source(Model):
    """Where an image comes from: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["build"]}, {"required": ["archive"]}, {"required": ["registry"]}]})

    build: Build | None = Field(default=None, description="A Dockerfile folder.")
    archive: Archive | None = Field(default=None, description="An image archive.")
    registry: ReferenceText | None = Field(default=None, description="Another registry's image.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in ("build", "archive", "registry") if getattr(self, name) is not None]
        if len(given) != 1:
            raise MisfitError("exactly one of build, archive and registry", " and ".join(given) or "no source", given[1] if given else "")
        if self.registry is not None and not _domain_of(self.registry):
            raise MisfitError("a name with a domain, such as docker.io/library/nginx", f"{self.registry!r}, which has no domain", "registry")
        return self


class Tags(Model):
    """Which tags of a repository. Given together, all must hold."""

    semver: VersionRange | None = Field(default=None, description="Only versions of this range.")
    newest: int | None = Field(default=None, ge=1, description="Only the newest N.")
    glob: tuple[TagGlob, ...] = Field(default=(), description="Only tags that match one of these.", strict=False)
    exclude: tuple[TagGlob, ...] = Field(default=(), description="No tag that matches one of these.", strict=False)

    @model_validator(mode="after")
    def _at_least_one(self) -> Tags:
        if self.semver is None and self.newest is None and not self.glob and not self.exclude:
            raise MisfitError("at least one of semver, newest, glob and exclude", "no choice of tags")
        return self


class ImageEntry(Model):
    """One image, one repository's tags, or one catalog of Dockerfile folders: exactly one of `name` and `catalog`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["name"]}, {"required": ["catalog"]}]})

    name: ReferenceText | None = Field(default=None, description="repository:tag in the registry. With a domain: pulled through from there.")
    catalog: FilePath | None = Field(default=None, description="A folder of Dockerfile folders with image.yaml.")
    on: Name | None = Field(default=None, description="The host that builds a catalog; default: the only one.")
    source: Source | None = Field(default=None, description="Where a local image comes from; default: whatever a host has under this name is pushed.")
    tags: Tags | None = Field(default=None, description="Many tags of an upstream's repository.")
    platforms: tuple[Platform, ...] = Field(default=(), description="Only these platforms; default: all.", strict=False)
    referrers: bool = Field(default=True, description="Whether signatures, SBOMs and other referrers of an upstream's image come along.")
    ensure: Ensure = Field(default=Ensure.PRESENT, description="Absent: deleted from the registry.", strict=False)

    @model_validator(mode="after")
    def _fits_together(self) -> ImageEntry:
        if self.name is not None and self.catalog is not None:
            raise MisfitError("exactly one of them", "both name and catalog", "catalog")
        if self.name is not None:
            self._check_name(self.name)
        elif self.catalog is not None:
            self._check_catalog()
        else:
            raise MisfitError("exactly one of them", "neither name nor catalog")
        return self

    def _check_catalog(self) -> None:
        for field in ("source", "tags", "platforms"):
            if getattr(self, field):
                raise MisfitError("it beside a name only", f"{field} of a catalog", field)
        if self.ensure is Ensure.ABSENT:
            raise MisfitError("Absent beside a name only", "ensure: Absent of a catalog", "ensure")

    def _check_name(self, name: str) -> None:
        if self.on is not None:
            raise MisfitError("it beside catalog only; a build's host stands in source.build.on", "`on` beside a name", "on")
        if self.ensure is Ensure.ABSENT and self.source is not None:
            raise MisfitError("an image that is Absent to have none", "a source", "source")
        if _domain_of(name):
            self._check_upstream(name)
        elif self.tags is not None:
            raise MisfitError("a name with a domain, such as docker.io/library/alpine, for `tags`", f"the local name {name!r}", "name")
        elif "@" in name:
            raise MisfitError("a local name without a digest; source.registry takes one", repr(name), "name")

    def _check_upstream(self, name: str) -> None:
        if self.source is not None:
            raise MisfitError(
                "a local name, one without a domain, for an image with a source", f"{name!r}, which is pulled through from its domain", "name"
            )
        if self.tags is not None and (":" in name.rpartition("/")[2] or "@" in name):
            raise MisfitError("a repository only; `tags` chooses the tags", repr(name), "name")


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


def _domain_of(name: str) -> str:
    """The domain that a name says; "" for a local one."""
    return split_domain(name.partition("@")[0])[0]
