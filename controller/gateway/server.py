"""The OCI distribution API (distribution-spec 1.1) as one address: what is asked of a local name goes to the registry, the rest through it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

from controller.domain.desired import Desired
from controller.domain.dispatch import Dispatch, NeedsLoginError
from controller.domain.oci import MAX_MANIFEST, Descriptor, once
from controller.domain.ports.registries import Forwarded, Forwarder
from controller.domain.reference import HELD_PREFIX, is_digest
from controller.gateway.access import Access
from controller.gateway.answers import DIGEST, VERSION, blob_answer, manifest_answer, manifest_headers, passed_on, problem, told
from controller.gateway.pulls import Asked, Pulls
from controller.gateway.writes import Writes, mounted_from, read_manifest

log = logging.getLogger(__name__)

_NAME = r"{name:[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*}"
_PASSED_ON = ("Accept", "Range", "If-None-Match", "If-Match", "If-Range", "Content-Type", "Content-Length", "Content-Range")
"""Of a client's headers, those that the registry behind gets; no header of a client's reaches an upstream."""

_KNOWN = web.RequestKey("known", bool)
"""Of a request, whether who sends it said who that is."""


class Gateway:
    """The web application. `desired` gives what the files say now; clients are sent to the registry at `send_on`, if given, for blobs that it has."""

    def __init__(
        self, forwarder: Forwarder, pulls: Pulls, writes: Writes, desired: Callable[[], Desired], access: Access, *, send_on: str = ""
    ) -> None:
        self._forwarder = forwarder
        self._pulls = pulls
        self._writes = writes
        self._desired = desired
        self._known_rules = Dispatch(desired())
        self._access = access
        self._send_on = send_on

    @property
    def _rules(self) -> Dispatch:
        """Of what the files say now; made once for all requests until they say something else."""
        desired = self._desired()
        if self._known_rules.desired is not desired:
            self._known_rules = Dispatch(desired)
        return self._known_rules

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[told, self._allowed], client_max_size=0)
        app.router.add_get("/v2/token", self._access.token)
        app.router.add_get("/v2/", self._base)
        app.router.add_get(f"/v2/{_NAME}/manifests/{{reference}}", self._manifest)
        app.router.add_get(f"/v2/{_NAME}/blobs/{{digest}}", self._blob)
        app.router.add_get(f"/v2/{_NAME}/tags/list", self._tags)
        app.router.add_route("*", f"/v2/{_NAME}/{{rest:(?:manifests|blobs|referrers)/.+}}", self._local)
        app.router.add_get("/v2/_catalog", self._catalog)
        return app

    @web.middleware
    async def _allowed(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler
        """Who may not is sent for a token. An engine asks /v2/ first, and what it is sent there is how it logs in for all that follows."""
        base = request.path == "/v2/"
        if (not self._access.is_open or self._rules.desired.private) and request.path != "/v2/token":
            rights = await self._access.rights(request)
            if rights is None or (base and "Authorization" not in request.headers) or not (base or rights.allow(request.method)):
                return self._asked_to_log_in(request, "log in first, as somebody who may do this")
            request[_KNOWN] = rights.known
        try:
            return await handler(request)  # type: ignore[no-any-return] # aiohttp's handler
        except NeedsLoginError as error:
            return self._asked_to_log_in(request, str(error))

    def _asked_to_log_in(self, request: web.Request, why: str) -> web.Response:
        name = request.match_info.get("name", "")
        scope = f"repository:{name}:{'pull' if request.method in {'GET', 'HEAD'} else 'pull,push'}" if name else ""
        said = self._writes.said if request.path == "/v2/" else {}
        return problem(401, "UNAUTHORIZED", why, self._access.challenge(request, scope) | said)

    async def _base(self, _: web.Request) -> web.Response:
        return web.json_response({}, headers={**VERSION, **self._writes.said})

    # Pulls.

    async def _manifest(self, request: web.Request) -> web.Response:
        found = await self._pulls.manifest(self._rules, _asked(request, request.match_info["reference"]))
        if isinstance(found, Descriptor):
            return web.Response(headers=manifest_headers(found.digest, found.media_type, found.size))
        return manifest_answer(found, request)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest, rules = request.match_info["digest"], self._rules
        if not is_digest(digest):
            return problem(400, "DIGEST_INVALID", f"{digest} is no digest")
        asked = _asked(request, digest)
        for place in rules.places(asked.repository, asked.ns, known=asked.known):
            path = f"/v2/{place.repository}/blobs/{digest}"
            send_on = "" if rules.is_private(place.repository) else self._send_on
            async with self._forwarded(request, path, place.repository, head=bool(send_on)) as found:
                if found.status not in {404, 400} and await self._writes.holds(place.repository, digest):
                    if send_on and request.method == "GET":
                        return web.Response(status=307, headers={**VERSION, "Location": send_on + path, DIGEST: digest})
                    return await passed_on(request, found)
        async with self._pulls.blob_through(rules, asked) as flow:
            return await blob_answer(request, flow)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        """As the registry has them, without those that are held for nobody to see."""
        name, known = request.match_info["name"], request.get(_KNOWN, False)
        for place in self._rules.places(name, request.query.get("ns", ""), known=known):
            async with self._forwarded(request, f"/v2/{place.repository}/tags/list", place.repository, query=True) as found:
                body = b"".join([chunk async for chunk in found.chunks])
                if found.status == 200:  # noqa: PLR2004 - OK
                    said = json.loads(body)
                    said["tags"] = [tag for tag in said.get("tags") or () if not tag.startswith(HELD_PREFIX)]
                    return web.json_response(said | {"name": name}, headers={**VERSION, **_link(found)})
        return problem(404, "NAME_UNKNOWN", f"the registry has no repository {name}")

    async def _catalog(self, request: web.Request) -> web.StreamResponse:
        """As the registry has it, for who may see all of it."""
        rules, known = self._rules, request.get(_KNOWN, False)
        async with self._forwarded(request, "/v2/_catalog", "", query=True) as found:
            if known or not rules.desired.private or found.status != 200:  # noqa: PLR2004 - OK
                return await passed_on(request, found)
            said = json.loads(b"".join([chunk async for chunk in found.chunks]))
            said["repositories"] = [name for name in said.get("repositories") or () if not rules.is_private(name)]
            return web.json_response(said, headers={**VERSION, **_link(found)})

    # Everything else is the registry's own.

    async def _local(self, request: web.Request) -> web.StreamResponse:
        name, rules = request.match_info["name"], self._rules
        repository = name if request.method in {"GET", "HEAD"} else rules.pushed_to(name)
        if not request.get(_KNOWN, False):
            rules.check_known(name)
            rules.check_known(request.query.get("from", name))  # Where a blob is mounted from.
        path = f"/v2/{repository}/{request.match_info['rest']}"
        if request.method in {"GET", "HEAD"}:
            return await self._passed_on(request, path, repository)
        kind, _, reference = request.match_info["rest"].partition("/")
        last = (kind == "manifests" and not is_digest(reference)) or (request.method == "DELETE" and is_digest(reference))
        async with self._writes.writing(request.remote or "", repository, last=last):
            if request.method == "PUT" and kind == "manifests":
                return await self._put_manifest(request, path, repository)
            return await self._passed_on(request, path, repository, query=not await self._mounts_what_is_gone(request))

    async def _passed_on(self, request: web.Request, path: str, repository: str, *, query: bool = True) -> web.StreamResponse:
        async with self._forwarded(request, path, repository, query=query) as found:
            return await passed_on(request, found)

    async def _put_manifest(self, request: web.Request, path: str, repository: str) -> web.StreamResponse:
        """What is answered 201 can be read afterwards, with its blobs; a blob cache may not know better than to say so of what was collected."""
        raw, manifest = await read_manifest(request)
        if raw is None:
            return problem(413, "SIZE_INVALID", f"a manifest of more than {MAX_MANIFEST >> 20} MiB")
        lost = await self._writes.lost(repository, manifest) if manifest else ""
        if lost:
            return problem(400, "MANIFEST_BLOB_UNKNOWN", f"{repository} lacks {lost}: push it again")
        async with self._forwarded(request, path, repository, query=True, whole=raw) as found:
            if manifest and found.status == 201:  # noqa: PLR2004 - created
                await self._forwarder.keep_manifest(repository, manifest)
            return await passed_on(request, found)

    async def _mounts_what_is_gone(self, request: web.Request) -> bool:
        """Then it is an upload like another."""
        source, digest = mounted_from(request)
        return bool(source) and not await self._writes.holds(source, digest)

    def _forwarded(
        self, request: web.Request, path: str, repository: str, *, query: bool = False, head: bool = False, whole: bytes | None = None
    ) -> AbstractAsyncContextManager[Forwarded]:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers["Accept"] = ", ".join(request.headers.getall("Accept", ["*/*"]))  # An engine sends several.
        # The registry makes the addresses of uploads of these.
        headers |= {"Host": request.host, "X-Forwarded-Proto": request.scheme}
        body: AsyncIterator[bytes] | None = (
            request.content.iter_any() if request.method in {"POST", "PUT", "PATCH"} and request.can_read_body else None
        )
        if request.method in {"POST", "PUT", "PATCH"} and body is None:
            headers["Content-Length"] = "0"
        if whole is not None:
            body, headers["Content-Length"] = once(whole), str(len(whole))
        target = f"{path}?{request.query_string}" if query and request.query_string else path
        action = "pull" if request.method in {"GET", "HEAD"} else "pull,push" if request.method != "DELETE" else "delete"
        scope = f"repository:{repository}:{action}" if repository else "registry:catalog:*"
        return self._forwarder.forward("HEAD" if head else request.method, target, headers, body, scope)


def _asked(request: web.Request, identifier: str) -> Asked:
    ns, head = request.query.get("ns", ""), request.method == "HEAD"
    return Asked(request.match_info["name"], identifier, ns, request.remote or "", head, request.get(_KNOWN, False))


def _link(found: Forwarded) -> dict[str, str]:
    """To the next page."""
    return {key: value for key, value in found.headers if key.lower() == "link"}
