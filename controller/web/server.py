"""The HTTP server of `wharf run`. It asks nobody who they are: it tells nothing that is secret, and what it hears is a hint."""

from __future__ import annotations

import asyncio
import hmac
import logging
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from controller.domain.errors import UsageError
from controller.domain.spec import Web
from controller.web.notifications import MalformedError, changes_in
from controller.web.operations import Operations

log = logging.getLogger(__name__)
_requests = logging.getLogger(f"{__name__}.requests")

MAX_BODY = 1 << 20
"""Bytes of a request. A registry posts its events one by one, or some at a time after it could not."""

PATIENCE = 10.0
"""Seconds for a request's body to come, and for answers under way when the server ends."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP gets 400, and fills no log."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_requests.addFilter(_is_news)


class Server:
    """Listens where the file says, or nowhere; may be moved while the controller runs."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._where: tuple[Web, Path] | None = None
        self._runner: web.AppRunner | None = None

    async def serve(self, wanted: Web | None, base: Path) -> None:
        """Listen as this says from now on; relative paths begin at `base`. UsageError when that can't be."""
        where = None if wanted is None else (wanted, base)
        if where == self._where:
            return
        await self.close()
        if wanted is None:
            return
        token = None if wanted.notifications.token_file is None else base / wanted.notifications.token_file
        runner = web.AppRunner(_application(self._operations, token), access_log=None, logger=_requests, shutdown_timeout=PATIENCE)
        await runner.setup()
        host, _, port = wanted.listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            await runner.cleanup()
            raise UsageError(f"web.listen {wanted.listen}: {error.strerror or error}: say a free address of this machine") from None
        self._runner, self._where = runner, where
        log.info("listening on http://%s: /healthz, /readyz, /metrics, and POST /notifications", wanted.listen)

    async def move(self, wanted: Web | None, base: Path) -> None:
        """As serve(), while the controller works: that it can't be is told, and disturbs nothing else."""
        try:
            await self.serve(wanted, base)
        except UsageError as error:
            log.error("%s", error)  # noqa: TRY400 - a traceback says nothing here

    async def close(self) -> None:
        """Listen no more; answers under way are finished."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self._where = None


def _application(operations: Operations, token: Path | None) -> web.Application:
    handlers = _Handlers(operations, token)
    application = web.Application(client_max_size=MAX_BODY)
    application.add_routes(
        [
            web.get("/healthz", handlers.healthz),
            web.get("/readyz", handlers.readyz),
            web.get("/metrics", handlers.metrics),
            web.post("/notifications", handlers.notifications),
        ]
    )
    return application


class _Handlers:
    """One for each path. `token` is the file of what senders of notifications must know."""

    def __init__(self, operations: Operations, token: Path | None) -> None:
        self._operations = operations
        self._token = token

    async def healthz(self, _: web.Request) -> web.Response:
        """That this is answered says it: the process lives and its loop turns."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """Whether it does its work."""
        why = self._operations.health.unready
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        """For Prometheus."""
        body, content_type = self._operations.metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def notifications(self, request: web.Request) -> web.Response:
        """What a registry tells; only taken as a hint of which images to look at."""
        if self._token is not None and (refused := _refusal(self._token, request.headers.get("Authorization", ""))):
            return refused
        try:
            async with asyncio.timeout(PATIENCE):
                changes = changes_in(await request.read())
        except TimeoutError:
            return web.Response(status=408, text="the body did not come\n")
        except MalformedError as error:
            return web.Response(status=400, text=f"{error}\n")
        for change in changes:
            log.debug("the registry tells of %s:%s", change.repository, change.tag or "*")
            self._operations.hint(change)
        return web.Response(status=202)


def _refusal(file: Path, said: str) -> web.Response | None:
    """None for whoever knows the token. It is read each time, so that it can be changed; without one nobody is let in."""
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        log.error("web.notifications.tokenFile %s: %s: no notification is taken", file, error.strerror)  # noqa: TRY400 - a traceback says nothing
        token = b""
    if not token:
        return web.Response(status=503, text="the token can't be read here\n")
    if not hmac.compare_digest(said.encode(errors="replace"), b"Bearer " + token):
        return web.Response(status=401, text="another token is expected\n", headers={"WWW-Authenticate": "Bearer"})
    return None
