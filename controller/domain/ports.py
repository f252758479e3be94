"""What the engine needs of the outside, as Protocols; the rooms at the edge fulfil them, and wiring.py puts them in.

Every method raises a subclass of RemoteError and nothing else when the other side fails. None of them blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from controller.domain.archived import ArchivedContent, ArchivedImage, Form, Packing
from controller.domain.desired import ArchiveSource, BuildSource
from controller.domain.observation import Held, HostState, Lookup, Present, Tombstone
from controller.domain.oci import Descriptor, Manifest
from controller.domain.ranges import Container
from controller.domain.reference import Target
from controller.domain.space import Layers

Advance = Callable[[int], None]
"""Told of bytes that moved since the last call."""


class ReadableRegistry(Protocol):
    """One OCI registry that is only read: an upstream, say. `identifier` is a tag or a digest."""

    @property
    def address(self) -> str:
        """host[:port], for people and for telling registries apart."""
        ...

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        """What the identifier means, by one HEAD; NotFoundError only when the registry said so."""
        ...

    async def manifest(self, repository: str, identifier: str, known: Manifest | None = None) -> Manifest:
        """The manifest's bytes, hashed: by digest CorruptError when they are not what was asked for. At most MAX_MANIFEST bytes are read.

        `known` is what the identifier may still mean: then only that is asked.
        """
        ...

    def read_blob(self, repository: str, digest: str, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The blob's bytes from `start` on, in chunks, not decoded, not hashed here."""
        ...

    async def blob_size(self, repository: str, digest: str) -> int:
        """The bytes of a blob, by one HEAD; NotFoundError when the registry says that it has none."""
        ...

    async def referrers(self, repository: str, digest: str) -> Manifest | None:
        """The index of what refers to a manifest, by the referrers API; None where the registry lacks it (distribution-spec, "Listing Referrers")."""
        ...

    async def tags(self, repository: str) -> list[str]:
        """All tags, every page; empty for a repository without any. Absence here is not absence: resolve() by name."""
        ...


class Registry(ReadableRegistry, Protocol):
    """One OCI registry."""

    async def ping(self) -> None:
        """Ask /v2/; raises when what answers is no registry or is not healthy."""
        ...

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None:
        """Write the bytes verbatim under a tag or a digest."""
        ...

    async def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the registry says that it has the blob. No proof: only reading it is."""
        ...

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes], upload: str = "") -> None:
        """Upload a blob of known size and digest; the registry checks the digest, CorruptError when it differs. `upload` is what offer() gave."""
        ...

    async def offer(self, repository: str, digest: str, source: str) -> str:
        """One request that either mounts a blob or begins its upload: "" when the repository has it now, else the upload, for write_blob().

        `source` is a repository that may have it, or the same one, to find out whether it is there already.
        """
        ...

    async def stream_blob(self, repository: str, chunks: AsyncIterator[bytes]) -> Descriptor:
        """Upload a blob whose size and digest are known only at its end: hashed as it goes. Its media type is left empty."""
        ...

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Mount a blob from another repository of this registry; False means that it has to be uploaded."""
        ...

    async def catalog(self) -> list[str]:
        """All repositories, every page."""
        ...

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Remove this tag and nothing else: not its manifest, not another tag of the same digest."""
        ...

    def writing(self, repository: str = "") -> AbstractContextManager[None]:
        """For as long as an image is brought, changed or deleted, by this task and by what it starts: no garbage is collected meanwhile.

        CollectingError while that is under way. Whatever is written outside of it asks for itself.
        """
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


@dataclass(frozen=True, slots=True)
class Rest:
    """A body of which the first bytes have come; `left` more can be read from a socket's descriptor, until the answer is closed."""

    first: bytes
    descriptor: int
    left: int


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A registry's answer to a request that was passed on; `chunks` are its body, to be read once.

    `take_over` gives the body as what is left of it in the connection, in place of `chunks`; None where that can't be.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]
    take_over: Callable[[], Rest | None]


class Forwarder(Protocol):
    """Passes requests of others on to the registry."""

    def forward(
        self, method: str, target: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None, scope: str
    ) -> AbstractAsyncContextManager[Forwarded]:
        """Send `target`, a path with its query, under our own credentials for `scope`. UnreachableError when there is no answer."""
        ...

    async def keep_manifest(self, repository: str, manifest: Manifest) -> None:
        """See to it that a manifest which the registry took can be read there; RefusedError when it can't."""
        ...

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether a blob can be read, by its first byte: a cache may remember one that is gone."""
        ...


COLLECTING = "Wharfinger-Collecting"
"""The header by which a gateway says that it holds writes off."""


class Doubt(IntEnum):
    """What a registry may say after its garbage was collected beside it, as its blob cache remembers what is gone."""

    NONE = 0
    MANIFESTS = 1
    """A manifest that was collected once is answered 201, and kept only when its bytes are uploaded as a blob too."""
    BLOBS = 2
    """A collection was broken off: of blobs, too, it may say that it has what is gone."""


class Gate(Protocol):
    """Between all who write to one registry and who collects its garbage, over the processes of a machine. Who reads does not ask."""

    @property
    def closed(self) -> bool:
        """Whether a collection is under way."""
        ...

    @property
    def doubt(self) -> Doubt:
        """How far the registry can be believed since the last collection."""
        ...

    def enter(self, repository: str = "") -> Callable[[], None]:
        """Begin to write; what it gives is called at the end. CollectingError while a collection is under way.

        While that waits for somebody who writes to the same repository, this may be a part of what he does, an engine's push, say: it may come in.
        """
        ...

    def writing(self, repository: str = "") -> AbstractContextManager[None]:
        """The same for this task and what it starts from here on; who is inside already, passes."""
        ...

    def passing(self) -> AbstractContextManager[None]:
        """This task, and what it starts, is a part of something that has entered."""
        ...

    def collecting(self, patience: float) -> AbstractAsyncContextManager[Shut]:
        """Let no writer in any more, and wait so many seconds for those inside. Who collects may write himself.

        LockedError when another collection is under way, or when somebody still writes then; the gate is open again in that case.
        """
        ...


class Shut(Protocol):
    """A gate that is shut, by who collects."""

    @property
    def files(self) -> tuple[int, ...]:
        """The locks' descriptors. A program that inherits them keeps the gate shut until it ends, whatever becomes of us."""
        ...

    def believe(self, doubt: Doubt) -> None:
        """How far the registry can be believed from now on; outlives us."""
        ...


@dataclass(frozen=True, slots=True)
class Marked:
    """What a registry's collector said: by repository each manifest that it knows, the blobs that no manifest needs, and links to such."""

    manifests: Mapping[str, frozenset[str]]
    garbage: frozenset[str]
    links: frozenset[tuple[str, str]] = frozenset()


class CollectedRegistry(Registry, Protocol):
    """A registry whose garbage is collected."""

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether a blob can be read, by its first byte."""
        ...

    async def delete_blob(self, repository: str, digest: str) -> bool:
        """Take away a repository's link to a blob, and what a cache remembers of it; whether there was one. RefusedError where deletes are off."""
        ...

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Remove a manifest with every tag on it: only where nothing else can mean it."""
        ...


class CollectorProgram(Protocol):
    """The garbage collector that a registry comes with."""

    async def look(self) -> Marked:
        """What it would collect; nothing is changed. UsageError when there is no such program, RefusedError when it fails."""
        ...

    async def collect(self, files: Iterable[int]) -> Marked:
        """Collect. The program inherits these descriptors."""
        ...

    async def restart(self) -> bool:
        """Have the registry restarted, if there is a command for that."""
        ...


class RegistryStorage(Protocol):
    """A registry's files, where they are in a folder of this machine."""

    async def blobs(self) -> Mapping[str, int]:
        """The bytes of each blob, by its digest."""
        ...

    async def links(self) -> frozenset[tuple[str, str]]:
        """Each (repository, digest) by which a repository knows a blob."""
        ...


@dataclass(frozen=True, slots=True)
class ImageDetail:
    """What only a closer look at one image tells. `diff_ids` are RootFS.Layers; `tagged_at` is LastTagTime in seconds since the epoch."""

    id: str
    tags: tuple[str, ...]
    diff_ids: tuple[str, ...]
    tagged_at: float | None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """An engine's answer to a removal: the names that it took off and the digests that it deleted."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


STIRS = ("container start ", "container die ")
"""The beginnings of an engine's words that change no image and no use of one, but which containers run."""


class Host(Protocol):
    """One Docker Engine. `name` is the one in the Wharf document; references are strings as the engine takes them."""

    @property
    def name(self) -> str:
        """The host's name in the Wharf document."""
        ...

    async def look(self) -> HostState:
        """Engine ID, store kind, images with tags and with the containers that use them; UnreachableError when it does not answer."""
        ...

    async def inspect(self, image: str) -> ImageDetail:
        """One image by Id or reference; NotFoundError when the engine has it no more."""
        ...

    async def layers(self) -> Layers:
        """The layers of every image, of those without a name too. A request for each image: only where space is asked for."""
        ...

    async def tag(self, image_id: str, reference: str) -> None:
        """Give the image a further name. Moves the name when another image had it: look first."""
        ...

    async def remove(self, image: str) -> Removal:
        """Remove a tag, or an image by Id with its last tag; never forced, parents kept. RefusedError on 409: in use, or more than one tag."""
        ...

    async def untag(self, reference: str, image_id: str) -> None:
        """Take a name off an image. Nothing is ever deleted by it, whatever the name means by then: who gets it at the same moment keeps it.

        MovedError when the name means another image, NotFoundError when it means none.
        """
        ...

    async def tidy(self) -> None:
        """Remove what a kill left of untag()."""
        ...

    async def push(self, reference: str, advance: Advance) -> None:
        """Push a tag to the registry that its name says. Errors in the stream raise; that none came proves nothing: read it back."""
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The engine's word for each change of its images or containers, as it happens: a hint to list again, never the truth (law 3).

        Words that begin with one of STIRS tell only that a container was started or ended.

        Entered once the engine listens, so that what happens after is not missed. The iterator raises UnreachableError when the stream ends, however.
        """
        ...

    async def pull(self, reference: str, advance: Advance) -> None:
        """Pull a name from the registry that it says. Errors in the stream raise; that none came proves nothing: look at what is there."""
        ...

    async def containers(self, label: str) -> Sequence[Container]:
        """The running containers that have a label: its key, or key=value."""
        ...

    def save(self, image_id: str, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An image as the archive that the engine saves, in chunks; CorruptError once it is more than `limit` bytes."""
        ...

    async def load(self, archive: AsyncIterator[bytes], advance: Advance) -> None:
        """Let the engine load an archive. Errors in the stream raise; that none came proves nothing: look at what is there."""
        ...

    async def build(self, request: BuildRequest, context: AsyncIterator[bytes], advance: Advance) -> str:
        """Build a tar of a Dockerfile folder, and give the image's Id, as read back by its tag. RefusedError with the failing step's last output."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What an engine is told beside the folder: the one tag of the result, its labels, and what the file says of the build."""

    tag: str
    source: BuildSource
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A Dockerfile folder as it is now. `hash` is of all that the build depends on, `size` what the tar would have in bytes."""

    hash: str
    size: int


class Contexts(Protocol):
    """Dockerfile folders of this machine; what .dockerignore names is no part of them."""

    async def look(self, source: BuildSource) -> BuildContext:
        """What the folder is now; NotFoundError when there is none, CorruptError when it can't be read."""
        ...

    async def concerned(self, source: BuildSource, names: Collection[str]) -> bool:
        """Whether one of these paths in the folder may be part of what Docker would send; in doubt it is."""
        ...

    def tar(self, source: BuildSource) -> AsyncIterator[bytes]:
        """The folder as a tar, in chunks, for an engine. MovedError, before its end, when it is not what the last look at this source saw."""
        ...


class PassingBlob(Protocol):
    """A blob of an archive on its way. Its chunks are taken once; a plain layer without a `blob` comes packed."""

    @property
    def member(self) -> str:
        """Where it lies in the archive."""
        ...

    @property
    def blob(self) -> Descriptor | None:
        """Digest and size where they are known beforehand; then the chunks are the member's own bytes."""
        ...

    @property
    def form(self) -> Form:
        """How the chunks are stored."""
        ...

    @property
    def read(self) -> int:
        """The bytes of the archive that were read for it so far."""
        ...

    @property
    def diff_id(self) -> str:
        """The digest of its plain bytes, known when all chunks were taken."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes; CorruptError when the archive is damaged there."""
        ...


class OpenArchive(Protocol):
    """One archive that is being read."""

    @property
    def contents(self) -> tuple[ArchivedContent, ...] | None:
        """Its images; None for a stream of which not all has passed."""
        ...

    @property
    def at_once(self) -> int:
        """How many blobs may be under way at a time: one of a stream, where the next one ends the one before."""
        ...

    def blobs(self, members: Collection[str] | None) -> AsyncIterator[PassingBlob]:
        """These members, each once, in whatever order is best; None: all that a stream has, as long as its contents are not known."""
        ...


class Archives(Protocol):
    """Image archives of this machine."""

    async def look(self, source: ArchiveSource) -> ArchivedImage:
        """Which image that is. NotFoundError when there is no such file or image, CorruptError when it is no archive."""
        ...

    def open(self, path: str, packing: Packing) -> AbstractAsyncContextManager[OpenArchive]:
        """Open an archive to read all of it; `-` is standard input. Errors as of look()."""
        ...

    def passing(self, what: str, chunks: AsyncIterator[bytes], packing: Packing) -> AbstractAsyncContextManager[OpenArchive]:
        """An archive that comes in chunks, once, and is called `what`."""
        ...

    def written(self, write: Callable[[ArchiveWriter], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
        """The chunks of the archive that `write` writes, as they are taken; its errors are raised where the archive ends."""
        ...


class ArchiveWriter(Protocol):
    """One archive that is being written."""

    async def document(self, name: str, data: bytes) -> None:
        """Append a small member."""
        ...

    async def blob(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Append a member of this size, as its bytes come; CorruptError when they are more or fewer."""
        ...


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A tag that we are about to put on an engine for a push, a build or a pull. `existed`: it was there before, with the same Id, and stays.

    `image_id` is "" until what is built or pulled under the tag has an Id.
    """

    host: str
    engine_id: str
    image_id: str
    reference: str
    existed: bool


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done or failed: append-only, so that it can be explained later (law 8). Times in seconds since the epoch."""

    at: float
    actor: str
    action: str
    image: str
    host: str
    reason: str
    before: str
    after: str
    bytes: int
    seconds: float
    error: str


PULL_THROUGH = "PullThrough"
"""The audit trail's word for what was pulled from the internet and is kept: by a client through the gateway, whose address `host` is then, or, with
PAST_GATEWAY as the reason, by a range past it."""

PAST_GATEWAY = "PastGateway"

RANGE_PULL = "RangePull"
"""The audit trail's word for what a range has and the registry had already."""

LOAD = "Load"
"""The audit trail's word for an image that a range was given as an archive, because it can't reach the registry: the entry of its pull says why."""


class Store(Protocol):
    """What must outlive a restart. Synchronous and quick; a few rows at a time."""

    def first_seen(self, host: str, pairs: Iterable[tuple[str, str]], now: float) -> Mapping[tuple[str, str], float]:
        """When each (image Id, canonical tag) of a host was seen first; `now` for new ones, which are kept. Others of the host are forgotten."""
        ...

    def open_push(self, entry: JournalEntry) -> None:
        """Journal a tag before it is made."""
        ...

    def close_push(self, entry: JournalEntry) -> None:
        """The tag is gone again, or was never ours."""
        ...

    def open_pushes(self, engine_id: str | None = None) -> Sequence[JournalEntry]:
        """What is journalled, of one engine or of all."""
        ...

    def set_last_pushed(self, engine_id: str, target: Target, digest: str) -> None:
        """This engine's image is what the registry's tag meant at that time."""
        ...

    def last_pushed(self, engine_id: str) -> Mapping[Target, str]:
        """By target, the digest that this engine last pushed or pulled."""
        ...

    def engine_of(self, host: str) -> str | None:
        """The engine ID that a host's name was first seen with; None: not seen yet, or forgotten."""
        ...

    def set_engine(self, host: str, engine_id: str) -> None:
        """From now on this name means this engine."""
        ...

    def forget_engine(self, host: str) -> None:
        """The operator says that this host's engine was replaced: the next look takes what is there."""
        ...

    def record(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        ...

    def history(self, image: str | None = None, limit: int = 100, *, actions: Collection[str] = ()) -> Sequence[AuditEntry]:
        """The newest entries first: of one image or of all, of these actions or of all."""
        ...

    def set_error(self, target: Target, error: str, at: float) -> None:
        """The last error of an image; "" clears it."""
        ...

    def errors(self) -> Mapping[Target, str]:
        """The last error of each image that has one."""
        ...

    def lookups(self) -> Mapping[Lookup, Present[Held]]:
        """What upstreams answered when they were last asked. Sizes are not kept."""
        ...

    def keep_lookups(self, found: Mapping[Lookup, Present[Held]], since: float) -> None:
        """Keep these answers, and none that is older than `since`, in seconds since the epoch."""
        ...

    def changes(self, repository: str | None = None) -> Sequence[AuditEntry]:
        """What put something under a tag or took it away, without failures, the newest first: of each image the newest one; of a repository all."""
        ...

    def hold(self, place: Target, at: float) -> None:
        """A held tag counts from then; it is known before the tag is made."""
        ...

    def held_since(self) -> Mapping[Target, float]:
        """From when each held tag that is known counts."""
        ...

    def let_go(self, place: Target) -> None:
        """The held tag is gone."""
        ...

    def bury(self, target: Target, stone: Tombstone) -> None:
        """This content is about to be deleted under that name, and shall not come back by itself."""
        ...

    def exhume(self, target: Target, digest: str) -> None:
        """This content is there again, because somebody asked for it."""
        ...

    def tombstones(self) -> Mapping[Target, Sequence[Tombstone]]:
        """What was deleted, by name."""
        ...

    def gate(self, address: str) -> Gate:
        """The gate of a registry: all whose state is in one folder share it."""
        ...

    def last_sweep(self) -> float | None:
        """When held tags were last looked over; None: never."""
        ...

    def set_last_sweep(self, at: float) -> None:
        """They were looked over now."""
        ...

    def transitions(
        self, seen: Mapping[tuple[str, str], Mapping[str, str]], now: float, *, keep: bool = True
    ) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """By (set, image), since when each condition has the status that was seen now; another status, or a new one, has it from now on.

        What is not seen is forgotten. Without `keep` nothing is written, and what was never kept has no time.
        """
        ...


class Messenger(Protocol):
    """A way to people."""

    async def send(self, title: str, body: str, *, trouble: bool) -> None:
        """Send a message; `trouble` says whether it is bad news."""
        ...
