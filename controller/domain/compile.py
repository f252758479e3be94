"""Documents -> Desired: what the documents say together, and every contradiction between them with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from controller.domain.desired import ArchiveSource, BuildSource, Desired, DesiredHost, DesiredImage, Patterns, RangeGroup, TagRule
from controller.domain.desired import Source as Origin
from controller.domain.problems import DocumentsError, Place, Problem
from controller.domain.ranges import RANGE_ID, is_range_id
from controller.domain.reference import Reference, Target, canonical_domain, held_tag, parse, parse_local, split_domain
from controller.domain.spec import Discover, Ensure, HostSpec, ImageEntry, ImageSet, Source, Wharf, WharfSpec
from controller.domain.tags import TagChoice

T_co = TypeVar("T_co", covariant=True)


class Located(Protocol[T_co]):
    """A document that knows where each of its fields stands."""

    @property
    def value(self) -> T_co:
        """The document."""
        ...

    def place(self, *loc: str | int) -> Place:
        """The place of a field, by its path in the file's words."""
        ...

    def resolve(self, path: str) -> str:
        """The absolute form of a path that the document says; relative ones begin at the folder of its file."""
        ...


@dataclass(frozen=True, slots=True)
class CatalogImage:
    """One folder of a catalog: the image's name, the absolute path of the folder, and where its name is said."""

    name: str
    context: str
    place: Place


Catalogs = Mapping[str, Sequence[CatalogImage]]
"""What each catalog holds, by its absolute path."""


def compile_desired(wharfs: Sequence[Located[Wharf]], sets: Sequence[Located[ImageSet]], catalogs: Catalogs | None = None) -> Desired:
    """The desired state of the one Wharf that the documents hold.

    Raises DocumentsError with every contradiction: no Wharf or several, a set for another one, twice the same name, an image with two sources,
    two entries for one host name, present and absent at once, a host that is not there.
    """
    problems: list[Problem] = []
    wharf = _the_one(wharfs, sets, problems)
    if wharf is None:
        raise DocumentsError(problems)
    found = _Compiler(wharf, catalogs or {}, problems)
    for each in _own_sets(wharf, sets, problems):
        found.add_set(each)
    desired = found.desired()
    if problems:
        raise DocumentsError(problems)
    return desired


def registry_address(spec: WharfSpec) -> str:
    """host[:port] of registry.url."""
    return urlsplit(spec.registry.url).netloc


def _the_one(wharfs: Sequence[Located[Wharf]], sets: Sequence[Located[ImageSet]], problems: list[Problem]) -> Located[Wharf] | None:
    if wharfs:
        problems.extend(
            Problem(other.place("metadata", "name"), f"a second Wharf, {other.value.metadata.name!r}", "one Wharf; give the files of one at a time")
            for other in wharfs[1:]
        )
        return wharfs[0]
    place = sets[0].place() if sets else Place("", 1, 1, "")
    problems.append(Problem(place, "no document of kind Wharf in these files", "one: it says where the registry and the hosts are"))
    return None


def _own_sets(wharf: Located[Wharf], sets: Iterable[Located[ImageSet]], problems: list[Problem]) -> list[Located[ImageSet]]:
    own: dict[str, Located[ImageSet]] = {}
    for each in sets:
        name, wanted = each.value.metadata.name, each.value.spec.wharf
        if wanted is not None and wanted != wharf.value.metadata.name:
            problems.append(Problem(each.place("spec", "wharf"), repr(wanted), f"the Wharf of these files, {wharf.value.metadata.name!r}"))
        elif name in own:
            problems.append(
                Problem(each.place("metadata", "name"), f"a second ImageSet {name!r}", f"names of their own; the first is at {own[name].place()}")
            )
        else:
            own[name] = each
    return list(own.values())


class _Compiler:
    """Collects one Wharf's hosts and images; contradictions go to `problems`."""

    def __init__(self, wharf: Located[Wharf], catalogs: Catalogs, problems: list[Problem]) -> None:
        self._wharf = wharf
        self._catalogs = catalogs
        self._spec = wharf.value.spec
        self._problems = problems
        self._address = registry_address(self._spec)
        self._host_names = {host.name for host in self._spec.hosts}
        self._sets: list[str] = []
        self._images: dict[DesiredImage, None] = {}
        self._rules: list[TagRule] = []
        self._sources: dict[Target, tuple[tuple[object, ...], Place]] = {}
        self._claims: dict[Reference, tuple[Target, Place]] = {}
        self._owners: dict[Target, tuple[Reference, Place]] = {}
        self._groups: list[RangeGroup] = []
        self._hosts = self._all_hosts()
        self._upstreams = self._all_upstreams()
        addresses = {self._address, *self._spec.registry.aliases, *(host.registry_address for host in self._spec.hosts if host.registry_address)}
        self._addresses = frozenset(addresses)

    def desired(self) -> Desired:
        spec = self._spec
        return Desired(
            wharf=self._wharf.value.metadata.name,
            addresses=self._addresses,
            sets=tuple(sorted(self._sets)),
            images=tuple(self._images),
            hosts=tuple(self._hosts),
            groups=tuple(self._groups),
            rules=tuple(self._rules),
            upstreams=self._upstreams,
            private=frozenset(canonical_domain(upstream.domain) for upstream in spec.upstreams if upstream.private),
            internet=spec.internet,
            immutable=Patterns(spec.immutable_tags),
            refresh=spec.refresh,
            mode=spec.mode,
            deletes=spec.limits.deletes,
            interval=spec.interval,
            prune=spec.prune,
            keep_held=spec.keep_held,
        )

    def _all_upstreams(self) -> frozenset[str]:
        """Their domains, each written once; docker.io has several names."""
        domains: dict[str, Place] = {}
        for i, upstream in enumerate(self._spec.upstreams):
            place = self._wharf.place("spec", "upstreams", i, "domain")
            self._once(domains, canonical_domain(upstream.domain), place, "upstream", "one entry for one domain")
        return frozenset(domains)

    # Hosts.

    def _all_hosts(self) -> list[DesiredHost]:
        hosts: list[DesiredHost] = []
        names: dict[str, Place] = {}
        engines: dict[str, Place] = {}
        for i, spec in enumerate(self._spec.hosts):
            at = ("spec", "hosts", i)
            self._once(names, spec.name, self._wharf.place(*at, "name"), "host", "a name of its own")
            if spec.engine is not None:
                self._once(engines, spec.engine, self._wharf.place(*at, "engine"), "engine", "one name for one engine")
                hosts.append(self._host(spec))
                if spec.range and not is_range_id(spec.name):
                    self._problems.append(Problem(self._wharf.place(*at, "name"), repr(spec.name), f"as the name of a range, {RANGE_ID}"))
            if spec.discover is not None:
                self._groups.append(self._group(spec, spec.discover))
            self._check_present(spec, i)
        for i, spec in enumerate(self._spec.hosts):
            if spec.discover is not None:
                self._check_engine(spec.discover.on, self._wharf.place("spec", "hosts", i, "discover", "on"), hosts)
        return hosts

    def _group(self, spec: HostSpec, discover: Discover) -> RangeGroup:
        port = discover.port or (2376 if spec.tls else 2375)
        return RangeGroup(self._host(spec), discover.on, discover.label, port, discover.network or "")

    def _host(self, spec: HostSpec) -> DesiredHost:
        is_range = spec.range or spec.discover is not None
        return DesiredHost(
            name=spec.name,
            engine=spec.engine or "",
            registry_address=spec.registry_address or self._address,
            adopt=Patterns(spec.adopt),
            absent=Patterns(spec.absent or ()) if spec.absent is not None or is_range else None,
            keep=Patterns(spec.keep),
            present=frozenset(parse(text) for text in spec.present),
            grace=spec.grace_period,
            on_conflict=spec.on_conflict,
            range=spec.name if is_range else "",
        )

    def _check_present(self, spec: HostSpec, i: int) -> None:
        for j, text in enumerate(spec.present):
            named = next((pattern for pattern in spec.absent or () if Patterns([pattern]).matches(parse(text))), None)
            if named is not None:
                place = self._wharf.place("spec", "hosts", i, "present", j)
                self._problems.append(Problem(place, f"{text!r}, which `absent` names too ({named!r})", "present or absent, not both"))

    def _check_host(self, name: str, place: Place) -> None:
        if name not in self._host_names:
            self._problems.append(Problem(place, repr(name), f"a host of the Wharf: {', '.join(sorted(self._host_names)) or 'it has none'}"))

    def _check_builder(self, name: str, place: Place) -> None:
        self._check_engine(name, place, self._hosts)

    def _check_engine(self, name: str, place: Place, hosts: Iterable[DesiredHost]) -> None:
        """That this is a host which people are trusted with: no range builds what the file names, or says what ranges there are."""
        self._check_host(name, place)
        engines = sorted(host.name for host in hosts if not host.range)
        if name in self._host_names and name not in engines:
            expected = f"a host with an engine of its own that is no range: {', '.join(engines) or 'there is none'}"
            self._problems.append(Problem(place, repr(name), expected))

    def _once(self, known: dict[str, Place], value: str, place: Place, what: str, expected: str) -> None:
        first = known.setdefault(value, place)
        if first is not place:
            self._problems.append(Problem(place, f"{what} {value!r} a second time", f"{expected}; the first is at {first}"))

    # Images.

    def add_set(self, located: Located[ImageSet]) -> None:
        name = located.value.metadata.name
        self._sets.append(name)
        for i, entry in enumerate(located.value.spec.images):
            at = ("spec", "images", i)
            if entry.catalog is not None:
                self._add_catalog(name, entry, located.resolve(entry.catalog), located, at)
            elif entry.name is not None:
                self._add_image(name, entry, entry.name, located, at)

    def _add_image(self, image_set: str, entry: ImageEntry, name: str, located: Located[ImageSet], at: tuple[str | int, ...]) -> None:
        place = located.place(*at, "name")
        self._check_sources(entry, located, at)
        if entry.tags is not None:
            reference = replace(self._upstream_of(name, place), tag="")
            choice = TagChoice(entry.tags.semver or "", entry.tags.newest, entry.tags.glob, entry.tags.exclude)
            self._rules.append(TagRule(image_set, name, reference, choice, tuple(sorted(set(entry.platforms))), entry.referrers))
            return
        image = self._image(image_set, entry, name, located, place)
        self._claim(image, place)
        self._images[image] = None

    def _add_catalog(self, image_set: str, entry: ImageEntry, folder: str, located: Located[ImageSet], at: tuple[str | int, ...]) -> None:
        on, engines = entry.on, [host.name for host in self._hosts if not host.range]
        if on is not None:
            self._check_builder(on, located.place(*at, "on"))
        elif len(engines) != 1:
            problem = Problem(located.place(*at, "catalog"), f"a catalog, and {len(engines)} hosts to build it", "`on`: the host that builds it")
            self._problems.append(problem)
        for each in self._catalogs.get(folder, ()):
            source = BuildSource(each.context, on or next(iter(engines), ""))
            image = DesiredImage(image_set, each.name, parse_local(each.name), parse(each.name), source=source)
            self._claim(image, each.place)
            self._images[image] = None

    def _image(self, image_set: str, entry: ImageEntry, name: str, located: Located[ImageSet], place: Place) -> DesiredImage:
        platforms = tuple(sorted(set(entry.platforms)))
        if not split_domain(name.partition("@")[0])[0]:
            source = None if entry.source is None else _source(entry.source, located)
            return DesiredImage(image_set, name, parse_local(name), parse(name), entry.ensure, source, platforms, entry.referrers)
        reference = self._upstream_of(name, place)
        target = Target(reference.registry_repository, reference.tag or held_tag(reference.digest))
        host_name = Reference(reference.domain, reference.repository, reference.tag, "" if reference.tag else reference.digest)
        wanted = None if entry.ensure is Ensure.ABSENT else reference
        return DesiredImage(image_set, name, target, host_name, entry.ensure, wanted, platforms, entry.referrers)

    def _upstream_of(self, name: str, place: Place) -> Reference:
        reference = parse(name)
        own = {self._address, *self._spec.registry.aliases}
        if reference.domain in own:
            self._problems.append(Problem(place, repr(name), "a name without the registry's own address"))
        return reference

    def _check_sources(self, entry: ImageEntry, located: Located[ImageSet], at: tuple[str | int, ...]) -> None:
        if entry.source is None:
            return
        if entry.source.build is not None:
            self._check_builder(entry.source.build.on, located.place(*at, "source", "build", "on"))
        if entry.source.registry is not None:
            self._upstream_of(entry.source.registry, located.place(*at, "source", "registry"))

    def _claim(self, image: DesiredImage, place: Place) -> None:
        """One image has one source, one host name one place in the registry, and the other way round."""
        claimed, first = self._claims.setdefault(image.host_name, (image.target, place))
        if claimed != image.target:
            self._problems.append(
                Problem(
                    place, f"{image.name!r}, which a host calls {image.host_name.familiar!r}", f"one entry for one host name; the other is at {first}"
                )
            )
        owner, first = self._owners.setdefault(image.target, (image.host_name, place))
        if owner != image.host_name:
            self._problems.append(Problem(place, f"{image.name!r}, kept as {image.target}", f"one entry for one repository; the other is at {first}"))
        if image.ensure is Ensure.ABSENT:
            return
        source = (image.source, image.platforms, image.referrers)
        known, first = self._sources.setdefault(image.target, (source, place))
        if known != source:
            self._problems.append(Problem(place, f"{image.name!r} with another source than at {first}", "one source for one image"))


def _source(said: Source, located: Located[ImageSet]) -> Origin:
    """Where a local image comes from."""
    if said.build is not None:
        build = said.build
        return BuildSource(
            located.resolve(build.context), build.on, build.dockerfile or "Dockerfile", tuple(sorted(build.args.items())),
            build.target or "", build.platform or "",
        )  # fmt: skip
    if said.archive is not None:
        return ArchiveSource(located.resolve(said.archive.path), parse(said.archive.name) if said.archive.name else None)
    return parse(said.registry or "")
