"""Files and folders that are watched, on the real file system: what is told of them while they come and go."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.engine.pathwatch import PathWatch
from controller.engine.sourcewatch import is_noise


class Watching:
    """A watch at work, and what it told."""

    def __init__(self, settles: float = 0.05) -> None:
        self.told: list[Path] = []
        self.watch = PathWatch(self.told.append, settles=settles)

    async def hears(self, path: Path, do: Callable[[], object]) -> None:
        """Do it, again and again as the watch may not have begun yet, until the path is told."""
        self.told.clear()
        async with asyncio.timeout(60):
            while path not in self.told:
                do()
                await asyncio.sleep(0.1)

    async def hears_only(self, path: Path, do: Callable[[], object]) -> None:
        """Do it until the path is told, and no other one; what was done before may be told late."""
        async with asyncio.timeout(60):
            while set(self.told) != {path}:
                self.told.clear()
                do()
                await asyncio.sleep(0.6)


@asynccontextmanager
async def watching(*paths: Path, settles: float = 0.05) -> AsyncIterator[Watching]:
    """Watch these."""
    found = Watching(settles)
    found.watch.watch(paths)
    task = asyncio.create_task(found.watch.run())
    yield found
    task.cancel()
    await asyncio.wait([task])


def write(path: Path) -> Callable[[], object]:
    """Make it say something else."""

    def do() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(8))

    return do


def gone_or_there(top: Path, file: Path) -> None:
    """Away with all of it; next time it is there again: a change that came while the watch began anew may have been told to nobody (law 3)."""
    if top.exists():
        shutil.rmtree(top)
    else:
        write(file)()


async def test_a_file_and_a_folder(tmp_path: Path) -> None:
    """Each is told for its own changes, a folder for those deep in it; what lies beside them is nobody's business."""
    file, folder = tmp_path / "a.tar", tmp_path / "context"
    write(file)()
    write(folder / "deep/er/file")()
    async with watching(file, folder) as found:
        await found.hears(file, write(file))
        await found.hears_only(folder, write(folder / "deep/er/file"))
        await found.hears(folder, write(folder / "new/one"))
        write(tmp_path / "beside")()
        await found.hears_only(file, write(file))


async def test_what_goes_and_comes_again(tmp_path: Path) -> None:
    """A folder that is missing at first, with those above it; that vanishes; and that comes again as another one: what changes in it then is told."""
    folder = tmp_path / "one/two/context"
    async with watching(folder) as found:
        await found.hears(folder, write(folder / "file"))
        await found.hears(folder, write(folder / "file"))
        for _ in range(2):
            await found.hears(folder, lambda: gone_or_there(tmp_path / "one", folder / "file"))
            await found.hears(folder, write(folder / "file"))
            await asyncio.sleep(0.5)  # Its coming may be told late; what follows must be told of its own.
            await found.hears(folder, write(folder / "file"))


@pytest.mark.parametrize("path", ["one/two/context", "one/two/a.tar"], ids=["a folder", "a file's folder"])
async def test_what_is_replaced_at_once(tmp_path: Path, path: str) -> None:
    """A checkout removes a folder and makes it again, which has the same inode as before, often: what changes in it from then on is told."""
    watched = tmp_path / path
    file = watched if watched.suffix else watched / "file"
    write(file)()
    async with watching(watched) as found:
        await found.hears(watched, write(file))
        for _ in range(4):
            shutil.rmtree(tmp_path / "one")
            write(file)()
            await asyncio.sleep(0.7)  # Its coming may be told late; what follows must be told of its own.
            await found.hears(watched, write(file))


async def test_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    """An archive of the newest build, say, is a link that is moved on; so are Kubernetes' mounted files."""
    link = tmp_path / "latest.tar"
    for name in ("1.tar", "2.tar"):
        write(tmp_path / name)()
    link.symlink_to("1.tar")

    def move_on() -> None:
        other = "2.tar" if link.readlink() == Path("1.tar") else "1.tar"
        (tmp_path / "next").symlink_to(other)
        (tmp_path / "next").replace(link)

    async with watching(link) as found:
        await found.hears(link, move_on)


async def test_it_is_told_once_it_was_left_alone(tmp_path: Path) -> None:
    """While an archive is written, or an editor saves in steps, nothing is told; many changes are one."""
    file = tmp_path / "a.tar"
    write(file)()
    async with watching(file, settles=600) as found:
        async with asyncio.timeout(60):
            while not found.watch._timers:
                write(file)()
                await asyncio.sleep(0.1)
            first = found.watch._timers[file]
            while found.watch._timers[file] is first:
                write(file)()
                await asyncio.sleep(0.1)
        assert list(found.watch._timers) == [file]
        assert first.cancelled()
        assert found.told == []


async def test_other_paths_may_be_asked_for(tmp_path: Path) -> None:
    """The desired state changes while it is watched."""
    one, two = tmp_path / "one", tmp_path / "two"
    for each in (one, two):
        write(each / "file")()
    async with watching(one) as found:
        await found.hears(one, write(one / "file"))
        found.watch.watch([two])
        await found.hears(two, write(two / "file"))

        def both() -> None:
            write(one / "file")()
            write(two / "file")()

        await found.hears_only(two, both)


NOISE = [".Dockerfile.swp", "src/.main.c.swx", "Dockerfile~", ".#Dockerfile", "#Dockerfile#", "a/4913", ".git/index.lock", "node_modules/x/y"]


@pytest.mark.parametrize("name", NOISE)
def test_what_editors_leave_is_noise(name: str) -> None:
    """It comes and goes while people work; acting on it would build what nobody meant."""
    assert is_noise(name)


@pytest.mark.parametrize("name", ["Dockerfile", "src/main.c", "a.swp.txt", ".gitignore", "my.git/x", "49130", ".dockerignore", "a~b", "."])
def test_what_people_write_is_not(name: str) -> None:
    """All else counts."""
    assert not is_noise(name)
