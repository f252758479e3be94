"""httpx as the API, aiohttp as what carries it (docs/adr/0001): several times the requests a second, and cancelling can't kill its pool."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

CHUNK = 1 << 20
"""Bytes read at a time: a blob in 16 KiB pieces costs more in calls than in copying."""

CONNECTIONS = 64

TIMEOUT = httpx.Timeout(connect=10, read=60, write=60, pool=None)
"""Seconds. A read is one chunk, not one blob."""


class ChunkedTransport(AiohttpTransport):
    """The aiohttp transport, reading in large chunks, keeping no cookies."""

    def __init__(self, ca_file: Path | None) -> None:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        super().__init__(verify=context, client=lambda: _session(context))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its body comes in chunks of up to CHUNK bytes."""
        response = await super().handle_async_request(request)
        response.stream.CHUNK_SIZE = CHUNK  # type: ignore[union-attr] # the one knob that the transport has for it
        return response


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=CHUNK, trust_env=True)


def http_client(ca_file: Path | None = None) -> httpx.AsyncClient:
    """A client that follows no redirect by itself: who gets which header is decided in client.py."""
    return httpx.AsyncClient(
        transport=ChunkedTransport(ca_file),
        timeout=TIMEOUT,
        follow_redirects=False,
        headers={"User-Agent": "wharfinger", "Accept-Encoding": "identity"},
    )


FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, TimeoutError, OSError)
"""All that the transport raises when there is no whole answer."""
