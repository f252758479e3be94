"""One Docker Engine, by the docker SDK, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import docker
import docker.auth
import docker.utils
import requests.exceptions

from controller.domain.errors import RefusedError
from controller.domain.observation import HostState
from controller.domain.ports import Advance, ImageDetail, Removal
from controller.hosts.failures import in_stream, told
from controller.hosts.images import detail, host_images, own_sizes, removal, store_kind

T = TypeVar("T")

_Client = Any
"""docker.APIClient, whose type stubs lack the request helpers that `?manifests=1` and a push that can be cancelled need."""

_THREADS = 4
_QUICK = 60
"""Seconds for anything but a push: the engine may be busy, but it answers."""

_WITH_MANIFESTS = (1, 47)
"""The API version that knows ?manifests=1."""


class _Login(Protocol):
    @property
    def username(self) -> str: ...

    @property
    def password(self) -> str: ...

    @property
    def identity_token(self) -> str: ...


async def _nobody() -> None:
    return None


class DockerHost:
    """Fulfils `domain.ports.Host`. Connects when it is first asked; an engine that is down is an UnreachableError of that call.

    `credentials` are those of the registry that is pushed to; they go to this engine with each push and are kept nowhere.
    """

    def __init__(self, name: str, url: str, *, credentials: Callable[[], Awaitable[_Login | None]] = _nobody) -> None:
        self._name = name
        self._url = url
        self._credentials = credentials
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"engine-{name}")
        self._local = threading.local()
        self._clients: list[_Client] = []

    @property
    def name(self) -> str:
        """The host's name in the Wharf document."""
        return self._name

    async def close(self) -> None:
        """Give the connections and the threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()

    async def look(self) -> HostState:
        """Three requests, however many images: /info, /images/json, /containers/json."""
        return await self._do("looking at its images", self._look)

    async def frees(self) -> dict[str, int]:
        """By Id, the bytes that only this image uses: what removing it would free. Slow on an engine with many images."""
        return own_sizes(await self._do("summing up its disk use", lambda client: client.df()))

    async def inspect(self, image: str) -> ImageDetail:
        """One image by Id or reference."""
        return detail(await self._do(f"inspecting {_brief(image)}", lambda client: client.inspect_image(image)))

    async def tag(self, image_id: str, reference: str) -> None:
        """Give the image a further name."""
        repository, _, tag = reference.rpartition(":")
        await self._do(f"tagging {_brief(image_id)} as {reference}", lambda client: client.tag(image_id, repository, tag))

    async def remove(self, image: str) -> Removal:
        """Remove a tag or an Id; never forced, parents kept."""
        return removal(await self._do(f"removing {_brief(image)}", lambda client: client.remove_image(image, force=False, noprune=True)))

    async def push(self, reference: str, advance: Advance) -> None:
        """Push a tag; errors in the engine's stream raise. Cancelling ends the engine's push too."""
        login = await self._credentials()
        push = _Push(reference, f"pushing {reference} from {self._name}", asyncio.get_running_loop(), advance)
        await self._do(f"pushing {reference}", lambda client: push.run(client, login), push.cancel)

    def _look(self, client: _Client) -> HostState:
        info = client.info()
        if not isinstance(info, dict) or not info.get("ID"):
            raise RefusedError(f"looking at {self._name}", "no engine ID in /info", hint=f"{self._url}: is that a Docker Engine?")
        parameters: dict[str, Any] = {"all": 0}
        if _version(client) >= _WITH_MANIFESTS:
            parameters["manifests"] = 1
        # The SDK's images() knows no `manifests`, so the list is asked for by its own request helpers.
        images = client._result(client._get(client._url("/images/json"), params=parameters), json=True)  # noqa: SLF001
        return HostState(str(info["ID"]), store_kind(info), host_images(images, client.containers(all=True)))

    async def _do(self, what: str, work: Callable[[_Client], T], cancel: Callable[[], None] = lambda: None) -> T:
        """Run it in a thread of this host, which has a client of its own: the SDK's are not to be shared between threads.

        A thread can't be cancelled. Who cancels this waits for its end, or what is done next would overtake it: a tag be made after it was removed.
        `cancel` makes that end come soon.
        """

        def in_thread() -> T:
            with told(f"{what} on host {self._name}", self._url):
                return work(self._client())

        job = self._threads.submit(in_thread)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            cancel()
            await asyncio.gather(asyncio.wrap_future(job), return_exceptions=True)
            raise

    def _client(self) -> _Client:
        client: _Client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
            self._clients.append(client)
        return client

    def _connect(self) -> _Client:
        if self._url == "env":
            return docker.APIClient(version="auto", timeout=_QUICK, **docker.utils.kwargs_from_env())
        return docker.APIClient(self._url, version="auto", timeout=_QUICK, use_ssh_client=self._url.startswith("ssh://"))


class _Push:
    """One push: its stream read to the end, bytes told as they move, errors in it raised."""

    def __init__(self, reference: str, tried: str, loop: asyncio.AbstractEventLoop, advance: Advance) -> None:
        self._reference = reference
        self._tried = tried
        self._loop = loop
        self._advance = advance
        self._response: Any = None
        self._cancelled = False
        self._moved: dict[str, int] = {}

    def cancel(self) -> None:
        """End the stream, and with it the engine's push and the thread that reads it: only a shutdown wakes one that waits for the next byte."""
        self._cancelled = True
        if self._response is not None:
            with contextlib.suppress(AttributeError, OSError):  # The stream has ended by itself, or is no socket (ssh).
                self._response.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001 - as the SDK's _get_raw_response_socket()

    def run(self, client: _Client, login: _Login | None) -> None:
        """Push, in a thread. Raises what the stream says."""
        repository, _, tag = self._reference.rpartition(":")
        headers = {"X-Registry-Auth": docker.auth.encode_header(_auth(login))}
        url = client._url("/images/{0}/push", repository)  # noqa: SLF001 - the SDK's push() can't be cancelled, and reads credentials of its own
        self._response = client.post(url, params={"tag": tag}, headers=headers, stream=True, timeout=(_QUICK, None))
        client._raise_for_status(self._response)  # noqa: SLF001
        with self._response:
            for record in self._records():
                self._read(record)

    def _records(self) -> Iterator[Mapping[str, Any]]:
        try:
            for line in self._response.iter_lines():
                if self._cancelled:
                    raise RefusedError(self._tried, "cancelled")
                if line.strip():
                    record = json.loads(line)
                    if isinstance(record, dict):
                        yield record
        except requests.exceptions.ChunkedEncodingError:
            raise in_stream("the engine broke the stream off: unexpected EOF", self._tried) from None

    def _read(self, record: Mapping[str, Any]) -> None:
        """One record: an error, or progress of a layer."""
        if "error" in record or "errorDetail" in record:
            said = record.get("errorDetail") or {}
            raise in_stream(str(said.get("message") or record.get("error")), self._tried)
        current = (record.get("progressDetail") or {}).get("current")
        if record.get("status") == "Pushing" and isinstance(current, int):
            layer = str(record.get("id"))
            more = current - self._moved.get(layer, 0)
            if more > 0:
                self._moved[layer] = current
                self._loop.call_soon_threadsafe(self._advance, more)


def _auth(login: _Login | None) -> dict[str, str]:
    """20.10 refuses a push without the header, so an empty one stands for nobody."""
    if login is None:
        return {}
    return {"identitytoken": login.identity_token} if login.identity_token else {"username": login.username, "password": login.password}


def _version(client: _Client) -> tuple[int, ...]:
    return tuple(int(part) for part in str(client._version).split("."))  # noqa: SLF001 - the negotiated version has no public name


def _brief(image: str) -> str:
    """A reference as it is, an Id in short."""
    return image[:19] if image.startswith("sha256:") else image
