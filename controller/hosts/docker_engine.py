"""One Docker Engine, by the docker SDK, off the event loop."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import docker.tls
import docker.utils

from controller.domain.errors import NotFoundError, RefusedError, UnreachableError
from controller.domain.observation import HostState
from controller.domain.ports.hosts import BuildRequest, ImageDetail, Removal
from controller.domain.ports.registries import Advance
from controller.domain.ranges import Container
from controller.domain.reference import DOCKER_IO, split_domain
from controller.domain.space import Layers
from controller.hosts import standin
from controller.hosts.building import Build
from controller.hosts.events import Events
from controller.hosts.failures import told
from controller.hosts.images import detail, host_images, labelled, layers_of, own_sizes, removal, store_kind
from controller.hosts.saving import Save
from controller.hosts.sending import Load
from controller.hosts.streams import QUICK, Client, Login, Pull, Push, Stream
from controller.hosts.tunnel import Tunnel

T = TypeVar("T")

_THREADS = 4
_LISTINGS = 5
"""28's containerd store answers 404 for the whole list while one of its images goes: so often it is asked."""

_IMPATIENCE = 0.2
"""Seconds between two tries to cut off what was cancelled."""

_WITH_MANIFESTS = (1, 47)
"""The API version that knows ?manifests=1."""


async def _nobody() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Tls:
    """The files by which an engine on tcp:// is spoken to by TLS; without `ca` the system's authorities are trusted."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class _Client(docker.APIClient):
    """The SDK's, but that REQUESTS_CA_BUNDLE in the environment does not win over the authority that the file names."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:  # noqa: ANN401 - requests'
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


class DockerHost:
    """Fulfils `domain.ports.hosts.Host`. Connects when it is first asked; an engine that is down is an UnreachableError of that call.

    `credentials` are those of the registry that is pushed to; they go to this engine with each push and are kept nowhere.
    """

    def __init__(self, name: str, url: str, *, tls: Tls | None = None, credentials: Callable[[], Awaitable[Login | None]] = _nobody) -> None:
        self._name = name
        self._url = url
        self._tls = tls
        self._tunnel = Tunnel(url) if url.startswith("ssh://") else None
        self._credentials = credentials
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"engine-{name}")
        self._streams = ThreadPoolExecutor(_THREADS + 1, thread_name_prefix=f"streams-{name}")  # So that long ones hold up no look; one listens.
        self._local = threading.local()
        self._clients: list[Client] = []
        self._building = asyncio.Lock()
        self._untidy = True
        self._stand_ins: asyncio.Queue[standin.StandIn] = asyncio.Queue()
        for each in random.sample(standin.STAND_INS, len(standin.STAND_INS)):  # So that two controllers seldom take the same one.
            self._stand_ins.put_nowait(each)

    @property
    def name(self) -> str:
        """The host's name in the Wharf document."""
        return self._name

    async def close(self) -> None:
        """Give the connections and the threads back."""
        for threads in (self._threads, self._streams):
            threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()
        if self._tunnel is not None:
            await asyncio.to_thread(self._tunnel.close)

    async def look(self) -> HostState:
        """Three requests, however many images: /info, /images/json, /containers/json."""
        return await self._do("looking at its images", self._look)

    async def frees(self) -> dict[str, int]:
        """By Id, the bytes that only this image uses: what removing it would free. Slow on an engine with many images."""
        return own_sizes(await self._do("summing up its disk use", lambda client: client.df()))

    async def inspect(self, image: str) -> ImageDetail:
        """One image by Id or reference; a name that is left on a stand-in means nothing."""
        found = detail(await self._do(f"inspecting {_brief(image)}", lambda client: client.inspect_image(image)))
        if found.id in standin.IDS:
            raise NotFoundError(f"inspecting {_brief(image)} on {self._name}", "the name was on its way off when that broke off")
        return found

    async def layers(self) -> Layers:
        """By the history of every image, of those without a name too."""
        return await self._do("asking for the layers of its images", self._layers)

    async def tag(self, image_id: str, reference: str) -> None:
        """Give the image a further name."""
        repository, _, tag = reference.rpartition(":")
        await self._do(f"tagging {_brief(image_id)} as {reference}", lambda client: client.tag(image_id, repository, tag))

    async def remove(self, image: str) -> Removal:
        """Remove a tag or an Id; never forced, parents kept."""
        return removal(await self._do(f"removing {_brief(image)}", lambda client: client.remove_image(image, force=False, noprune=True)))

    async def untag(self, reference: str, image_id: str) -> None:
        """Take a name off an image, as standin.py does it."""
        stand_in = await self._stand_ins.get()
        try:
            await self._do(f"taking {reference} off", lambda client: standin.take_off(client, reference, image_id, stand_in))
        finally:
            self._stand_ins.put_nowait(stand_in)

    async def tidy(self) -> None:
        """Remove what a kill left of untag(), if the last look saw any, or none was yet."""
        if not self._untidy:
            return
        free = [self._stand_ins.get_nowait() for _ in range(self._stand_ins.qsize())]
        try:
            await self._do("tidying up", lambda client: standin.tidy(client, free))
        finally:
            for each in free:
                self._stand_ins.put_nowait(each)

    async def push(self, reference: str, advance: Advance) -> None:
        """Push a tag; errors in the engine's stream raise. Cancelling ends the engine's push too."""
        login = await self._credentials()
        push = Push(f"pushing {reference} from {self._name}", advance)
        await self._do(f"pushing {reference}", lambda client: push.run(client, reference, login), push)

    async def pull(self, reference: str, advance: Advance) -> None:
        """Pull a name; errors in the engine's stream raise. Cancelling ends the engine's pull too."""
        login = await self._login_for(reference)
        pull = Pull(f"pulling {reference} to {self._name}", advance)
        await self._do(f"pulling {reference}", lambda client: pull.run(client, reference, login), pull)

    async def build(self, request: BuildRequest, context: AsyncIterator[bytes], advance: Advance) -> str:
        """Build a tar of a folder by BuildKit where the engine has it; the image's Id, as the tag means it afterwards. Cancelling ends it.

        One at a time: of two builds at once that have a step in common, 20.10 fails one with "duplicate output".
        """
        login = await self._login_for(request.tag)
        build = Build(f"building {request.tag} on {self._name}", request, context, advance)
        async with self._building:
            return await self._do(f"building {request.tag}", lambda client: build.run(client, login), build)

    async def containers(self, label: str) -> tuple[Container, ...]:
        """The running ones that have it."""
        filters = {"label": [label], "status": ["running"]}
        found = await self._do("looking for ranges", lambda client: client.containers(filters=filters))
        return tuple(labelled(each, label.partition("=")[0]) for each in found)

    @asynccontextmanager
    async def save(self, image_id: str, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The engine's archive of an image. One that is not read to its end is broken off."""
        saving = Save(f"saving {_brief(image_id)} out of {self._name}", limit)
        reading = asyncio.create_task(self._do(f"saving {_brief(image_id)}", lambda client: saving.run(client, image_id), saving))
        try:
            yield _until_empty(saving, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def load(self, archive: AsyncIterator[bytes], advance: Advance) -> None:
        """Load an archive; errors in the engine's stream raise, and those of its making. Cancelling ends it."""
        load = Load(f"loading an image into {self._name}", archive, advance)
        await self._do("loading an image", load.run, load)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[str]]:
        """The engine's events of images and containers. The SDK ends a dead stream as if all were well; here its end is an error."""
        events = Events(f"listening to {self._name}")
        reading = asyncio.create_task(self._do("listening to its events", events.run, events))
        try:
            await _first(events.ready.wait(), reading)
            yield self._until_ended(events, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _until_ended(self, events: Events, reading: asyncio.Task[None]) -> AsyncIterator[str]:
        while True:
            yield await _first(events.word(), reading)

    async def _login_for(self, reference: str) -> Login | None:
        """The login, for a name under the registry's own address only: there is none of Docker Hub or of nobody here (law 7)."""
        return await self._credentials() if split_domain(reference)[0] not in {"", DOCKER_IO} else None

    def _look(self, client: Client) -> HostState:
        info = client.info()
        if not isinstance(info, dict) or not info.get("ID"):
            raise RefusedError(f"looking at {self._name}", "no engine ID in /info", hint=f"{self._url}: is that a Docker Engine?")
        parameters: dict[str, Any] = {"all": 0}
        if _version(client) >= _WITH_MANIFESTS:
            parameters["manifests"] = 1
        images = _listed(client, parameters)
        self._untidy = any(image["Id"] in standin.IDS for image in images)
        return HostState(str(info["ID"]), store_kind(info), host_images(images, client.containers(all=True)))

    def _layers(self, client: Client) -> Layers:
        found: dict[str, Any] = {}
        for image in client.images(all=True):
            with suppress(docker.errors.NotFound):  # Gone since it was listed.
                found[str(image["Id"])] = layers_of(image, client.history(image["Id"]))
        return found

    async def _do(self, what: str, work: Callable[[Client], T], stream: Stream | None = None) -> T:
        """Run it in a thread of this host, which has a client of its own: the SDK's are not to be shared between threads.

        A thread can't be cancelled. Who cancels this waits for its end, or what is done next would overtake it: a tag be made after it was removed.
        A `stream` is cut off, so that its end comes soon.
        """

        def in_thread() -> T:
            with told(f"{what} on host {self._name}", self._url):
                return work(self._client(f"{what} on host {self._name}"))

        gone = UnreachableError(f"{what} on host {self._name}", "it is no host any more")
        try:
            job = (self._streams if stream else self._threads).submit(in_thread)
        except RuntimeError:  # It was closed.
            raise gone from None
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if job.cancelled():
                task = asyncio.current_task()
                if task is None or not task.cancelling():  # Nobody cancelled this: the host was closed before its turn came.
                    raise gone from None
            end = asyncio.gather(asyncio.wrap_future(job), return_exceptions=True)
            while not end.done():
                if stream is not None:
                    stream.cancel()
                await asyncio.wait([end], timeout=_IMPATIENCE)
            raise

    def _client(self, tried: str) -> Client:
        url = self._url if self._tunnel is None else self._tunnel.open(tried)
        client: Client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect(url, tried)
            self._clients.append(client)
        return client

    def _connect(self, url: str, tried: str) -> Client:
        if url == "env":
            return _Client(version="auto", timeout=QUICK, **docker.utils.kwargs_from_env())
        tls = False if self._tls is None else _config(self._tls, tried)
        return _Client(url, version="auto", timeout=QUICK, tls=tls)


def _listed(client: Client, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """All images. The SDK's images() knows no `manifests`, so they are asked for by its own request helpers."""
    for left in reversed(range(_LISTINGS)):
        try:
            found: list[dict[str, Any]] = client._result(client._get(client._url("/images/json"), params=parameters), json=True)  # noqa: SLF001
        except docker.errors.NotFound:
            if not left:
                raise
        else:
            return found
    raise AssertionError  # The last turn returns or raises.


def _config(tls: Tls, tried: str) -> docker.tls.TLSConfig:
    """The server's name is always checked."""
    for file in (tls.ca, tls.cert, tls.key):
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            raise UnreachableError(tried, f"{file}: {error.strerror}", hint="see `tls` of this host") from None
    shown = (str(tls.cert), str(tls.key)) if tls.cert and tls.key else None
    return docker.tls.TLSConfig(client_cert=shown, ca_cert=str(tls.ca) if tls.ca else None, verify=True)


async def _until_empty(saving: Save, reading: asyncio.Task[None]) -> AsyncIterator[bytes]:
    while chunk := await _first(saving.chunk(), reading):
        yield chunk


async def _first(wanted: Coroutine[Any, Any, T], reading: asyncio.Task[None]) -> T:
    """What is waited for, or UnreachableError as soon as the stream that it comes from has ended."""
    task = asyncio.create_task(wanted)
    try:
        await asyncio.wait({task, reading}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    reading.result()
    raise UnreachableError("listening to its events", "the stream ended", hint="the engine was stopped, or a proxy between cut it off")


def _version(client: Client) -> tuple[int, ...]:
    return tuple(int(part) for part in str(client._version).split("."))  # noqa: SLF001 - the negotiated version has no public name


def _brief(image: str) -> str:
    """A reference as it is, an Id in short."""
    return image[:19] if image.startswith("sha256:") else image
