"""What push, pull and build have in common: a long answer of JSON lines, read in a thread, that can be cut off at any moment."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import docker.auth
import requests
import requests.exceptions

from controller.domain.errors import RefusedError
from controller.domain.ports.registries import Advance
from controller.hosts.failures import in_stream

Client = Any
"""docker.APIClient, whose type stubs lack the request helpers that streams which can be cancelled need."""

T = TypeVar("T")

QUICK = 60
"""Seconds for anything but what a stream brings: the engine may be busy, but it answers."""


class Login(Protocol):
    """What an engine is given for one registry."""

    @property
    def username(self) -> str:
        """The user, "" with an identity token."""
        ...

    @property
    def password(self) -> str:
        """The password, "" with an identity token."""
        ...

    @property
    def identity_token(self) -> str:
        """What some registries want instead."""
        ...


class Stream:
    """One such request: its records read to the end, bytes told as they move, errors in it raised.

    `moving` is the status of the records whose progress counts, layer by layer.
    """

    moving = ""

    def __init__(self, tried: str, advance: Advance) -> None:
        self.tried = tried
        self.cancelled = False
        self.loop = asyncio.get_running_loop()
        self._advance = advance
        self._connection: Any = None
        self._response: Any = None
        self._moved: dict[str, int] = {}
        self._awaited: concurrent.futures.Future[Any] | None = None

    def cancel(self) -> None:
        """End it, and with it what the engine does and the thread that waits: only a shutdown wakes one that waits for the next byte."""
        self.cancelled = True
        with contextlib.suppress(AttributeError, OSError):  # It has not begun, has ended by itself, or is no socket (ssh).
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(AttributeError, OSError):  # Where the connection has given its socket to the answer.
            self._response.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001 - as the SDK's _get_raw_response_socket()
        if self._awaited is not None:
            self._awaited.cancel()

    def begun(self) -> None:
        """The engine has taken the request; called in the thread."""

    def told(self, count: int) -> None:
        """Tell of bytes that moved, from a thread."""
        if count > 0:
            self.loop.call_soon_threadsafe(self._advance, count)

    def awaited(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of this in the event loop, for the thread, which waits no longer once all is cancelled."""
        awaited = asyncio.run_coroutine_threadsafe(work, self.loop)
        self._awaited = awaited
        if self.cancelled:
            awaited.cancel()
        try:
            return awaited.result()
        except concurrent.futures.CancelledError:
            raise RefusedError(self.tried, "cancelled") from None

    def records(
        self,
        client: Client,
        url: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        data: Iterator[bytes] | None = None,
        method: str = "POST",
    ) -> Iterator[Mapping[str, Any]]:
        """Ask, in a thread, and give each record that is no error. The SDK's own methods can't be cancelled, and read credentials of their own."""
        request = requests.Request(method, url, params=dict(params), headers=dict(headers), data=data)
        with self._sent(client, client.prepare_request(request)) as response:
            self._response = response
            client._raise_for_status(response)  # noqa: SLF001 - the SDK's errors, which failures.py knows
            self.begun()
            try:
                for line in response.iter_lines():
                    if self.cancelled:
                        raise RefusedError(self.tried, "cancelled")
                    yield from self._record(line)
            except requests.exceptions.ChunkedEncodingError:
                raise in_stream("the engine broke the stream off: unexpected EOF", self.tried) from None

    def _sent(self, client: Client, prepared: requests.PreparedRequest) -> requests.Response:
        """Send it. Which connection is used is noted, as a request that still goes out must be cut off too."""
        pool: Any = client.get_adapter(prepared.url).get_connection_with_tls_context(prepared, client.verify, cert=client.cert)
        take = pool._get_conn  # noqa: SLF001 - urllib3 has no public way to a connection before its answer

        def noted(timeout: float | None = None) -> object:
            self._connection = take(timeout)
            if self.cancelled:
                raise RefusedError(self.tried, "cancelled")
            return self._connection

        pool._get_conn = noted  # noqa: SLF001 - the same
        try:
            response: requests.Response = client.send(prepared, stream=True, timeout=(QUICK, None), verify=client.verify, cert=client.cert)
        finally:
            del pool._get_conn  # noqa: SLF001 - the same
        return response

    def _record(self, line: bytes) -> Iterator[Mapping[str, Any]]:
        """One line: an error, progress, or anything else."""
        record = json.loads(line) if line.strip() else None
        if not isinstance(record, dict):
            return
        if "error" in record or "errorDetail" in record:
            said = record.get("errorDetail") or {}
            raise self.failed(str((said.get("message") if isinstance(said, dict) else "") or record.get("error")))
        detail = record.get("progressDetail")
        current = detail.get("current") if isinstance(detail, dict) else None
        if record.get("status") == self.moving and isinstance(current, int):
            layer = str(record.get("id"))
            self.told(current - self._moved.get(layer, 0))
            self._moved[layer] = max(current, self._moved.get(layer, 0))
        yield record

    def failed(self, words: str) -> Exception:
        """The error that the engine's words in the stream are."""
        return in_stream(words, self.tried)


class Push(Stream):
    """A tag to the registry that its name says."""

    moving = "Pushing"

    def run(self, client: Client, reference: str, login: Login | None) -> None:
        """Push, in a thread. Raises what the stream says."""
        repository, _, tag = reference.rpartition(":")
        url = client._url("/images/{0}/push", repository)  # noqa: SLF001 - the SDK's helper
        for _ in self.records(client, url, params={"tag": tag}, headers=auth_header(login)):
            pass


class Pull(Stream):
    """A name from the registry that it says."""

    moving = "Downloading"

    def run(self, client: Client, reference: str, login: Login | None) -> None:
        """Pull, in a thread. Raises what the stream says."""
        repository, at, digest = reference.partition("@")
        tag = digest
        if not at:
            repository, _, tag = reference.rpartition(":")
        url = client._url("/images/create")  # noqa: SLF001 - the SDK's helper
        for _ in self.records(client, url, params={"fromImage": repository, "tag": tag}, headers=auth_header(login)):
            pass


def auth_header(login: Login | None) -> dict[str, str]:
    """20.10 refuses a push without the header, so an empty one stands for nobody."""
    return {"X-Registry-Auth": encoded({} if login is None else auth_of(login))}


def encoded(auth: Mapping[str, object]) -> str:
    """A header's value."""
    raw: bytes = docker.auth.encode_header(auth)
    return raw.decode("ascii")


def auth_of(login: Login) -> dict[str, str]:
    """A login as the engine takes it."""
    return {"identitytoken": login.identity_token} if login.identity_token else {"username": login.username, "password": login.password}
