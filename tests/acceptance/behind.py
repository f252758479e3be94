"""`wharf run` and an engine that reach the registry through a proxy, which a test may let fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.acceptance.wharf import Running, running
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.scene import Scene


@asynccontextmanager
async def behind(scene: Scene) -> AsyncIterator[tuple[FaultProxy, Running]]:
    """A controller and an engine that reach the registry through a proxy; the next full look is an hour away."""
    async with fault_proxy(scene.registry.url) as proxy:
        scene.spec = {"registry": {"url": proxy.url}, "interval": "1h", "limits": {"deletes": 100}}
        scene.host = {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
        with running(scene.file, state=scene.state) as controller:
            await said_by(controller, "converged")
            yield proxy, controller
            assert await asyncio.to_thread(controller.end) == 0
            assert "Traceback" not in "\n".join(controller.lines)


async def said_by(controller: Running, told: Callable[[str], bool] | str, after: int = 0) -> int:
    """Wait for a line, while the proxy goes on."""
    return await asyncio.to_thread(controller.wait_for, told, after=after)
