"""Requests of others, passed on to the registry as they are, with our own credentials and none of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from controller.domain.ports.registries import Forwarded
from controller.registry.answers import shown
from controller.registry.client import RegistryClient
from controller.registry.streams import received
from controller.registry.transport import taken_over


class ForwardingClient(RegistryClient):
    """A registry's client that also passes on what others ask; fulfils `domain.ports.registries.Forwarder`."""

    @asynccontextmanager
    async def forward(
        self, method: str, target: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None, scope: str
    ) -> AsyncIterator[Forwarded]:
        """Send it, and give the answer whatever it is; UnreachableError when there is none. A body goes once."""
        url = self._url_of(method, target)
        authorization = await self._auth.header(scope)
        response = await self._once(method, url, headers, authorization, body)
        if response.status_code == httpx.codes.UNAUTHORIZED and body is None:
            again = await self._auth.challenged(response.headers.get_list("WWW-Authenticate"), scope, authorization)
            if again is not None:
                await response.aclose()
                response = await self._once(method, url, headers, again, None)
        try:
            tried = f"{method} {shown(url)}"
            chunks = received(response, tried) if method != "HEAD" else _nothing()
            yield Forwarded(response.status_code, tuple(response.headers.multi_items()), chunks, lambda: taken_over(response))
        finally:
            await response.aclose()


async def _nothing() -> AsyncIterator[bytes]:
    """The body of an answer to HEAD."""
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk
