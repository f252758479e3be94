"""How one registry is asked: in its turn, with who we are, again where that may help, and along redirects that can be trusted."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import httpx

from controller.domain.errors import RefusedError, RemoteError
from controller.domain.ports.collecting import Gate
from controller.registry.answers import error_of, one_line, shown, unreachable
from controller.registry.auth import Authorizer
from controller.registry.credentials import Credentials
from controller.registry.manners import LONGEST_WAIT, Lane, Manners
from controller.registry.transport import FAILURES, http_client

TRIES = 4

_REDIRECTS = 5
_BRIDGE, _BRIDGE_PAUSE = 150, 0.2
"""How often a read is tried again while a collection is under way, and the seconds between: half a minute in all."""

_WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))


class Sender:
    """Sends to one registry. `requests` counts what was sent, for benchmarks and metrics."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        ca_file: Path | None,
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
        gate: Gate,
    ) -> None:
        self._url = httpx.URL(url)
        self._base = url.rstrip("/")
        self._client = http_client(ca_file)
        self._auth = Authorizer(self._url, self._client, credentials)
        self._sleep = sleep
        self._jitter = jitter
        self.gate = gate
        self._manners = Manners(sleep, address=self.address)
        self.requests = 0

    @property
    def address(self) -> str:
        """host[:port]."""
        return self._url.netloc.decode()

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    def writing(self, repository: str = "") -> AbstractContextManager[None]:
        """For as long as an image is brought, changed or deleted, by this task and by what it starts: no garbage is collected meanwhile."""
        return self.gate.writing(repository)

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        target: str | httpx.URL,
        headers: Mapping[str, str] | None = None,
        *,
        scope: str = "",
        content: bytes | AsyncIterator[bytes] | None = None,
        tries: int = TRIES,
        lane: Lane = Lane.SMALL,
    ) -> AsyncIterator[httpx.Response]:
        """One answer that is not an error, after retries, in its turn; a body that is a stream can't be sent twice, so it is tried once.

        What writes asks the gate, where what it is a part of has not asked already.
        """
        url = self._url_of(method, target) if isinstance(target, str) else target
        with self.writing() if method in _WRITES else nullcontext():
            async with self._manners.turn(lane):
                response = await self._tried(method, url, headers or {}, scope, content, tries, lane)
                try:
                    yield response
                finally:
                    await response.aclose()

    async def _tried(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        scope: str,
        content: bytes | AsyncIterator[bytes] | None,
        tries: int,
        lane: Lane,
    ) -> httpx.Response:
        left = tries if content is None or isinstance(content, bytes) else 1
        counted = method == "GET" and "/manifests/" in url.path
        rested = False
        while True:
            left -= 1
            try:
                await self._manners.wait(f"{method} {shown(url)}", counted=counted, rested=rested)
                return await self._authorized(method, url, headers, scope, content, lane)
            except RemoteError as error:
                if not error.retryable or left <= 0 or (error.retry_after or 0) > LONGEST_WAIT:
                    raise
                await self._sleep(error.retry_after or 0.2 * 2 ** (tries - left - 1) * (0.5 + self._jitter()))
                rested = bool(error.retry_after)

    async def _authorized(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], scope: str, content: bytes | AsyncIterator[bytes] | None, lane: Lane
    ) -> httpx.Response:
        """One try: with the header that this registry wants, asked once more after a challenge, redirects followed."""
        authorization = await self._auth.header(scope) if self._is_ours(url) else None
        streamed, asked_again = isinstance(content, AsyncIterator), False
        while True:
            response = await self._follow(method, url, headers, authorization, content)
            if self._is_ours(response.request.url):
                self._manners.heed(response, lane)
            if response.is_success or (response.status_code == httpx.codes.NOT_MODIFIED and "If-None-Match" in headers):
                return response
            try:
                error = await error_of(response, tried_by(response))
            finally:
                await response.aclose()  # Before a token is asked for, which needs a connection of the same pool.
            if asked_again or response.status_code != httpx.codes.UNAUTHORIZED or not self._is_ours(response.request.url):
                raise error
            authorization = await self._auth.challenged(response.headers.get_list("WWW-Authenticate"), scope, authorization)
            if authorization is None:
                raise error
            if streamed:  # What was streamed is gone; who has it begins again, with the new token.
                error.retryable = True
                raise error
            asked_again = True

    async def _follow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], authorization: str | None, content: bytes | AsyncIterator[bytes] | None
    ) -> httpx.Response:
        """Send; follow redirects of reads by hand: our Authorization goes to the registry's own host and to no other."""
        first = url
        for _ in range(_REDIRECTS + 1):
            response = await self._once(method, url, headers, authorization if self._is_ours(url) else None, content)
            if not response.has_redirect_location or method not in {"GET", "HEAD"}:
                return response
            await response.aclose()
            url = further(response, response.headers["Location"])
        raise RefusedError(f"{method} {shown(first)}", f"more than {_REDIRECTS} redirects", hint="it sends us in circles")

    async def _once(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], authorization: str | None, content: bytes | AsyncIterator[bytes] | None
    ) -> httpx.Response:
        """One request, whatever its answer is; UnreachableError when there is none. A read waits while a collection restarts the registry."""
        mine = {**headers, "Authorization": authorization} if authorization else headers
        for left in reversed(range(_BRIDGE)):
            self.requests += 1
            try:
                return await self._client.send(self._client.build_request(method, url, headers=mine, content=content), stream=True)
            except FAILURES as failure:
                if not left or method in _WRITES or not self.gate.closed:
                    raise unreachable(f"{method} {shown(url)}", failure) from None
            await self._sleep(_BRIDGE_PAUSE)
        raise AssertionError("the last try either answers or raises")

    def _url_of(self, method: str, target: str) -> httpx.URL:
        try:
            return _parsed(self._base + target)
        except (httpx.InvalidURL, ValueError):
            raise RefusedError(f"{method} {self._base}", f"no URL can be made of {one_line(target)!r}") from None

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._url.scheme, self._url.host, self._url.port)


@functools.lru_cache(maxsize=4096)
def _parsed(url: str) -> httpx.URL:
    """The same few are asked for again and again, and taking one apart takes a tenth of a small request."""
    return httpx.URL(url)


def further(response: httpx.Response, location: str) -> httpx.URL:
    """Where an answer sends us on; RefusedError when that is no place to go."""
    tried, here = tried_by(response), response.request.url
    try:
        url = here.join(location).copy_with(userinfo=b"")
    except (httpx.InvalidURL, ValueError):
        raise RefusedError(tried, f"a further address that is no URL, {one_line(location)!r}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise RefusedError(tried, f"a further address that is no HTTP, {one_line(location)!r}")
    if here.scheme == "https" and url.scheme == "http":
        raise RefusedError(tried, "sends on from https to http", hint="that would show the content to anyone on the way")
    return url


def tried_by(response: httpx.Response) -> str:
    """The request of an answer, for an error's words."""
    return f"{response.request.method} {shown(response.request.url)}"
