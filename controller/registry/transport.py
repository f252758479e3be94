"""httpx as the API, aiohttp as what carries it (docs/adr/0001): several times the requests a second, and cancelling can't kill its pool."""

from __future__ import annotations

import asyncio
import base64
import functools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from controller.domain.errors import UsageError
from controller.domain.ports.registries import Rest

CHUNK = 1 << 20
"""Bytes read at a time: a blob in 16 KiB pieces costs more in calls than in copying."""

CONNECTIONS = 128

TIMEOUT = httpx.Timeout(connect=10, read=60, write=60, pool=None)
"""Seconds. A read or a write is one chunk, not one blob."""


_CARRIED = "wharf.carried"


class ChunkedTransport(AiohttpTransport):
    """The aiohttp transport, with what it lacks for us: large chunks, a time-out for writes, the environment's proxies without its .netrc."""

    def __init__(self, ca_file: Path | None) -> None:
        context = _context(ca_file)
        super().__init__(verify=context, client=lambda: _session(context))
        self._proxies = getproxies()  # Once: reading the environment takes as long as a small request.

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer's body comes in chunks of up to CHUNK bytes."""
        seconds = request.extensions.get("timeout", {}).get("write")
        if request.headers.get("Content-Length", "0") == "0" and "Transfer-Encoding" not in request.headers:
            response = await self._carried(request)
        else:
            response = await self._watched(request, seconds)
        response.stream.CHUNK_SIZE = CHUNK  # type: ignore[union-attr] # the one knob that the transport has for it
        response.extensions[_CARRIED] = response.stream._aiohttp_response  # type: ignore[union-attr] # noqa: SLF001 - for taken_over()
        return response

    async def _watched(self, request: httpx.Request, seconds: float | None) -> httpx.Response:
        """Send a request that has a body. aiohttp begins to count when the body is out: one that nobody takes would wait for ever."""
        try:
            async with asyncio.timeout(None) as watch:
                body = _WatchedBody(request.stream, seconds, watch)
                try:
                    same = httpx.Request(request.method, request.url, headers=request.headers, stream=body, extensions=request.extensions)
                    return await self._carried(same)
                finally:
                    body.unwatch()
        except TimeoutError:
            raise httpx.WriteTimeout(f"it took nothing of the body for {seconds:g} s") from None

    async def _carried(self, request: httpx.Request) -> httpx.Response:
        # It is read before anything is awaited, so no other request can come between.
        self.proxy = _proxy_for(request.url, self._proxies)
        if self.proxy is not None and request.url.scheme == "http":  # Else only the CONNECT has them.
            request.headers.update(self.proxy.headers)
        return await super().handle_async_request(request)


class _WatchedBody(httpx.AsyncByteStream):
    """A body whose chunks must each be taken in time; the time that its source needs does not count."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, seconds: float | None, watch: asyncio.Timeout) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 # an AsyncClient has no other
        self._stream = stream
        self._seconds = seconds
        self._watch: asyncio.Timeout | None = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        async for chunk in self._stream:
            self._until(None if self._seconds is None else clock() + self._seconds)
            yield chunk
            self._until(None)

    def unwatch(self) -> None:
        """After an answer that came before the end of the body."""
        self._watch = None

    def _until(self, when: float | None) -> None:
        if self._watch is not None and not self._watch.expired():
            self._watch.reschedule(when)


def taken_over(response: httpx.Response) -> Rest | None:
    """What is left of a body that nobody has begun to read, as a socket's descriptor; the connection is closed with the answer.

    None where that is not the body: by TLS, in chunks, of a length that is not said, or when all of it has come already.
    """
    carried: aiohttp.ClientResponse = response.extensions[_CARRIED]
    connection, length = carried.connection, response.headers.get("Content-Length", "")
    transport = connection.transport if connection is not None else None
    if connection is None or transport is None or transport.get_extra_info("sslcontext") is not None:
        return None
    if not length.isdecimal() or "Transfer-Encoding" in response.headers:
        return None
    protocol: Any = connection.protocol
    protocol.pause_reading()
    first = carried.content.read_nowait()
    protocol.pause_reading()  # Reading lets it go on when it was full.
    return Rest(first, transport.get_extra_info("socket").fileno(), int(length) - len(first))


def _proxy_for(url: httpx.URL, proxies: dict[str, str]) -> httpx.Proxy | None:
    """The proxy that the environment names for a URL: http_proxy, https_proxy, no_proxy.

    Not by aiohttp's trust_env, which also sends logins out of .netrc, and fails on those of a host that has an Authorization already.
    """
    found = proxies.get(url.scheme)
    if not found or proxy_bypass(url.netloc.decode()):
        return None
    try:
        proxy = httpx.URL(found if "://" in found else f"http://{found}")
    except httpx.InvalidURL:
        proxy = httpx.URL("")
    if proxy.scheme not in {"http", "https"}:
        raise httpx.ProxyError(f"{url.scheme}_proxy is not the URL of an HTTP proxy")
    login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    return httpx.Proxy(proxy.copy_with(userinfo=b""), headers={"Proxy-Authorization": f"Basic {login}"} if proxy.userinfo else {})


def _context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return _system_context()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise UsageError(f"caFile {ca_file}: {error.strerror or error}; expected a file of PEM certificates") from None


@functools.cache
def _system_context() -> ssl.SSLContext:
    """What this machine trusts: a tenth of a second to read, the same for every upstream."""
    return ssl.create_default_context()


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=CHUNK // 2)


def http_client(ca_file: Path | None = None) -> httpx.AsyncClient:
    """A client that keeps no cookies and follows no redirect by itself: who gets which header is decided in client.py."""
    client = httpx.AsyncClient(
        transport=ChunkedTransport(ca_file),
        timeout=TIMEOUT,
        follow_redirects=False,
        headers={"User-Agent": "wharfinger", "Accept-Encoding": "identity"},
    )
    client._cookies = _NoCookies()  # noqa: SLF001 - the setter would make a jar of it
    return client


class _NoCookies(httpx.Cookies):
    """Takes none, and looks for none: that took a tenth of a small request."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them."""


FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, TimeoutError, OSError)
"""All that the transport raises when there is no whole answer."""
