"""The gate of a registry: writers share it, a collection has it alone, and whoever dies gives it back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from controller.domain.errors import CollectingError, LockedError, UsageError
from controller.domain.ports.collecting import Doubt
from controller.store.gate import RETRY_AFTER, RegistryGate
from tests.store.children import child, next_line, unprivileged_folder

ADDRESS = "127.0.0.1:5000"

COLLECTOR = """
import asyncio, subprocess, sys
from pathlib import Path
from controller.domain.ports.collecting import Doubt
from controller.store.gate import RegistryGate
async def main():
    async with RegistryGate(Path(sys.argv[1]), "127.0.0.1:5000").collecting(5) as shut:
        shut.believe(Doubt.BLOBS)
        program = subprocess.Popen(["sleep", "60"], pass_fds=shut.files) if sys.argv[2] == "program" else None
        print(program.pid if program else "ready", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


WRITER = """
import sys
from pathlib import Path
from controller.store.gate import RegistryGate
with RegistryGate(Path(sys.argv[1]), "127.0.0.1:5000").writing("cyroid/kali"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def gate(tmp_path: Path) -> RegistryGate:
    """A gate of which another object, or another process, is the same one."""
    return RegistryGate(tmp_path, ADDRESS)


async def test_nobody_comes_in_while_it_is_shut(gate: RegistryGate, tmp_path: Path) -> None:
    """The refusal says who collects, that it is worth another try, and when; who collects may write; afterwards it is open."""
    other = RegistryGate(tmp_path, ADDRESS)
    async with gate.collecting(5):
        with gate.writing():
            pass
        assert other.closed
        with pytest.raises(CollectingError, match=r"collected, by process \d+ since \d{4}-.*reading goes on") as refused:
            other.enter()
        assert (refused.value.retryable, refused.value.retry_after) == (True, RETRY_AFTER)
        assert not RegistryGate(tmp_path, "127.0.0.1:5001").closed, "each registry has a gate of its own"
    assert not other.closed
    other.enter()()


async def test_it_waits_for_those_inside(gate: RegistryGate) -> None:
    """While it waits nobody comes in any more; what is inside already, and what that starts, passes."""
    shut = asyncio.Event()

    async def collect() -> None:
        async with gate.collecting(30):
            shut.set()

    with gate.writing():
        collecting = asyncio.create_task(collect())
        await _until_closed(gate)

        async def part() -> None:
            with gate.writing():
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(part())
        with pytest.raises(CollectingError):
            gate.enter()
        assert not shut.is_set()
    await collecting


async def test_who_writes_for_somebody_inside(gate: RegistryGate, tmp_path: Path) -> None:
    """An engine pushes through the gateway what the controller has begun: to that repository it comes in while the collection waits for both."""
    other, shut = RegistryGate(tmp_path, ADDRESS), asyncio.Event()

    async def collect() -> None:
        async with gate.collecting(30):
            shut.set()

    with gate.writing("cyroid/kali"):
        collecting = asyncio.create_task(collect())
        await _until_closed(gate)
        leave = other.enter("cyroid/kali")
        for repository in ("cyroid/kal", "cyroid/kali2", ""):
            with pytest.raises(CollectingError):
                other.enter(repository)
    with pytest.raises(CollectingError):
        other.enter("cyroid/kali")
    assert not shut.is_set()
    leave()
    await collecting


async def test_what_the_dead_announced(gate: RegistryGate, tmp_path: Path) -> None:
    """It lets nobody in, and is gone after the next collection."""
    with child(WRITER, tmp_path) as writer:
        assert next_line(writer) == "ready"
        writer.kill()
        writer.wait()
    assert len(_announced(tmp_path)) == 1
    async with gate.collecting(5):
        assert not _announced(tmp_path)
    with child(WRITER, tmp_path) as writer:
        assert next_line(writer) == "ready"
        writer.kill()
        writer.wait()
        with child(COLLECTOR, tmp_path, "alone") as other:
            assert next_line(other) == "ready"
            with pytest.raises(CollectingError):
                gate.enter("cyroid/kali")


async def test_its_patience_ends(gate: RegistryGate) -> None:
    """Then it says that somebody writes, and is open again."""
    leave = gate.enter()
    with pytest.raises(LockedError, match=r"still writes to 127\.0\.0\.1:5000 after 0 s, so nothing was collected.*--patience"):
        async with gate.collecting(0):
            pass
    gate.enter()()
    leave()
    async with gate.collecting(0):
        pass


async def test_two_collections(gate: RegistryGate, tmp_path: Path) -> None:
    """The second one is told of the first; writers who look in for a moment are none."""
    with child(COLLECTOR, tmp_path, "alone") as other:
        assert next_line(other) == "ready"
        with pytest.raises(LockedError, match=f"another collection of 127.0.0.1:5000 is under way, by process {other.pid} since "):
            async with gate.collecting(30):
                pass


async def test_a_killed_collection_opens_it(gate: RegistryGate, tmp_path: Path) -> None:
    """At once; how far the registry can be believed outlives it."""
    with child(COLLECTOR, tmp_path, "alone") as other:
        assert next_line(other) == "ready"
        assert gate.closed
        other.kill()
        other.wait()
        gate.enter()()
    assert int(gate.doubt) == Doubt.BLOBS
    async with gate.collecting(0) as shut:
        assert int(gate.doubt) == Doubt.BLOBS
        shut.believe(Doubt.NONE)
    assert int(gate.doubt) == Doubt.NONE


async def test_the_program_keeps_it_shut(gate: RegistryGate, tmp_path: Path) -> None:
    """A collector whose starter was killed still deletes: until it has ended nobody writes."""
    with child(COLLECTOR, tmp_path, "program") as other:
        program = next_line(other)
        other.kill()
        other.wait()
        with pytest.raises(CollectingError):
            gate.enter()
        os.kill(int(program), signal.SIGKILL)
        async with asyncio.timeout(10):
            while gate.closed:  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.01)
        gate.enter()()


def test_a_folder_that_can_not_be_written() -> None:
    """The error names the file and what to do."""
    with unprivileged_folder() as folder:
        folder.chmod(0o500)
        with pytest.raises(UsageError, match=r"registry-127\.0\.0\.1_5000\.door can't be taken: Permission denied.*--state"):
            RegistryGate(folder, ADDRESS).enter()


async def _until_closed(gate: RegistryGate) -> None:
    async with asyncio.timeout(10):
        while not gate.closed:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def _announced(folder: Path) -> list[Path]:
    return list(folder.glob("*.repositories/*"))
