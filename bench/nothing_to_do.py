"""The steady state, which a controller is in nearly always: everything is there already, and that has to be found out."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import uvloop
import yaml

from bench.images import ask, fill
from bench.measure import Result, in_turns, own_processor_seconds, processor_seconds, run
from bench.state import WHARF, copying_from, desired_state
from controller.domain.desired import Desired
from controller.engine.reconcile import Reconciler
from controller.registry.client import RegistryClient
from controller.wiring import registries, world
from controller.wiring.setup import read
from controller.wiring.state import stored
from tests.support.servers import RegistryServer, free_port

REPOSITORIES = [f"bench/image{number:03}" for number in range(100)]
TAGS = [f"v{number}" for number in range(10)]
IMAGES, TURNS = len(REPOSITORIES) * len(TAGS), 3
AT_MOST = 2 * IMAGES + len(REPOSITORIES)

_REQUEST = re.compile(r'"[A-Z]+ \S+ HTTP/1\.[01]" \d{3} ')
_WHAT = f"""\
Finding out that nothing is to be done: {IMAGES:,} images in {len(REPOSITORIES)} repositories, the same in the registry and upstream. `wharf plan` and
`skopeo sync` are whole processes; "in process" leaves the start of Python out. `wharf apply` ran before, so that upstream need not be asked again
within `refresh` (ADR 0022); `--refresh` asks it for every tag, as `skopeo sync` does. "Those requests alone", by aiohttp with nothing around them,
are the most that these registries let anybody have. Requests are those to both: of whole processes by the registries' access logs in a run of its
own, else by our own count."""
_AIM = f"in process under 1 s; at most {AT_MOST:,} requests, one an image and registry and one a repository"

Servers = tuple[RegistryServer, RegistryServer]


def measure() -> list[Result]:
    """1,000 images in 100 repositories, the same in both registries."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder:
        home, ports = Path(folder), (free_port(), free_port())
        here, there = (f"http://127.0.0.1:{port}" for port in ports)
        file, sync = desired_state(home, *copying_from(there, here, REPOSITORIES, TAGS)), _sync_file(home, ports)
        state = home / "state.sqlite"
        commands = {
            "wharf plan": [*WHARF, "plan", str(file), "--state", str(state)],
            "wharf plan --refresh": [*WHARF, "plan", "--refresh", str(file), "--state", str(state)],
            "skopeo sync": ["skopeo", "sync", "--all", "--src=yaml", "--dest=docker", "--dest-tls-verify=false", str(sync), _copies(ports)],
        }
        with _registries(home, ports) as servers:
            uvloop.run(fill(servers[0].url, [f"docker.io/{name}" for name in REPOSITORIES], TAGS))
            uvloop.run(fill(servers[1].url, REPOSITORIES, TAGS))
            run([*WHARF, "apply", str(file), "--state", str(state)])
            contenders = {
                "wharf plan": lambda: _noted(servers, lambda: run(commands["wharf plan"]), children=True),
                "in process": lambda: _noted(servers, lambda: uvloop.run(_look(file, state, fresh=False))),
                "wharf plan --refresh": lambda: _noted(servers, lambda: run(commands["wharf plan --refresh"]), children=True),
                "in process, --refresh": lambda: _noted(servers, lambda: uvloop.run(_look(file, state, fresh=True))),
                "those requests alone": lambda: _noted(servers, lambda: uvloop.run(ask(_addresses(servers)))),
                "skopeo sync": lambda: _noted(servers, lambda: run(commands["skopeo sync"]), children=True),
            }
            rows = in_turns(contenders, TURNS)
        with _registries(home, ports, {"log": {"accesslog": {"disabled": False}}}) as servers:
            counts = {name: _logged_requests(servers, command) for name, command in commands.items()}
    for row in rows:
        if row.name in counts:
            row.notes = {"requests": f"{counts[row.name]:,}", **row.notes}
    return [Result("Nothing to do", _WHAT, _AIM, rows)]


@contextmanager
def _registries(home: Path, ports: tuple[int, int], extra: dict[str, object] | None = None) -> Iterator[Servers]:
    """The registry and the upstream; a second time with what the first time wrote."""
    with ExitStack() as stack:
        servers = RegistryServer(home / "here", ports[0], extra), RegistryServer(home / "there", ports[1], extra)
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield servers


def _noted(servers: Servers, work: Callable[[], int | None], *, children: bool = False) -> Mapping[str, str]:
    """Do it; who used the processors for how long, and the number of requests where the work tells it."""
    used = own_processor_seconds(children=children), _used(servers)
    requests = work()
    own, theirs = own_processor_seconds(children=children) - used[0], _used(servers) - used[1]
    counted = {} if requests is None else {"requests": f"{requests:,}"}
    return {**counted, "CPU s": f"{own:.2f}", "CPU s of the registries": f"{theirs:.2f}"}


def _used(servers: Servers) -> float:
    return sum(processor_seconds(server.process.pid) for server in servers if server.process)


def _logged_requests(servers: Servers, command: list[str]) -> int:
    before = logged_requests(servers)
    run(command)
    return logged_requests(servers) - before


def logged_requests(servers: Servers) -> int:
    """All requests so far, by the registries' access logs."""
    return sum(len(_REQUEST.findall(server.log.read_text(errors="replace"))) for server in servers)


@dataclass(frozen=True)
class _World:
    """What `wharf plan` opens, and the clients in it."""

    desired: Desired
    reconciler: Reconciler
    clients: list[RegistryClient]

    async def look(self) -> int:
        """Look, and make sure that there was nothing to do; the requests that it took."""
        before = sum(client.requests for client in self.clients)
        look = await self.reconciler.look(self.desired)
        if not look.converged:
            raise RuntimeError(f"there is something to do: {look.plan.actions[:1]} {look.plan.held_back[:1]}")
        return sum(client.requests for client in self.clients) - before


async def _look(file: Path, state: Path, *, fresh: bool) -> int:
    """From the file to the plan, as the command does it; the requests that it took."""
    async with _opened(file, state, fresh=fresh) as world:
        return await world.look()


@asynccontextmanager
async def _opened(file: Path, state: Path, *, fresh: bool) -> AsyncIterator[_World]:
    clients: list[RegistryClient] = []

    def client(*arguments: object, **more: object) -> RegistryClient:
        clients.append(RegistryClient(*arguments, **more))  # type: ignore[arg-type] # passed on as they came
        return clients[-1]

    setup = read([file])
    async with AsyncExitStack() as stack:
        store = stack.enter_context(stored(setup, str(state)))
        with patch.object(world, "RegistryClient", client), patch.object(registries, "RegistryClient", client):
            reconciler = await stack.enter_async_context(world.open_world(setup, store, actor="bench", fresh=fresh))
        yield _World(setup.desired, reconciler, clients)


def _addresses(servers: Servers) -> list[str]:
    """Every manifest, as `wharf plan` asks for it."""
    places = f"{servers[0].url}/v2/docker.io", f"{servers[1].url}/v2"
    return [f"{place}/{repository}/manifests/{tag}" for place in places for repository in REPOSITORIES for tag in TAGS]


def _copies(ports: tuple[int, int]) -> str:
    """Where `skopeo sync` puts what the registry has under docker.io."""
    return f"127.0.0.1:{ports[0]}/docker.io"


def _sync_file(home: Path, ports: tuple[int, int]) -> Path:
    path = home / "sync.yaml"
    path.write_text(yaml.safe_dump({f"127.0.0.1:{ports[1]}": {"tls-verify": False, "images": dict.fromkeys(REPOSITORIES, TAGS)}}))
    return path
