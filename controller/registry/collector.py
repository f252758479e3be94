"""The garbage collector that comes with Distribution: its program is run, and what it says is read (2.8 and 3.x say the same)."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Iterable, Sequence

from controller.domain.errors import RefusedError, UsageError
from controller.domain.ports.collecting import Marked
from controller.domain.reference import is_digest
from controller.registry.answers import one_line

_MANIFEST = re.compile(r"(\S+): marking manifest (\S+)")
_GARBAGE = re.compile(r"blob eligible for deletion: (\S+)")
_LINK = re.compile(r"(\S+): layer link eligible for deletion: (\S+)")
_DELETES_UNTAGGED = re.compile(r"-[a-z]*m[a-z]*|--delete-untagged(=.*)?")
_LAST_WORDS = 5
"""Lines of what it complains of that are told when it fails."""


class CollectorCommand:
    """Fulfils `domain.ports.collecting.CollectorProgram`.

    `collect` is the command line without `--dry-run`, `restarts` the one that restarts the registry.
    UsageError for one that would delete untagged manifests: among those are the platforms of tagged images.
    """

    def __init__(self, collect: str | Sequence[str], restarts: str = "") -> None:
        self._collect = _words(collect, "--collector")
        self._restarts = _words(restarts, "--restart") if restarts else []
        after = self._collect[self._collect.index("garbage-collect") + 1 :] if "garbage-collect" in self._collect else []
        if any(_DELETES_UNTAGGED.fullmatch(word) for word in after):
            raise UsageError("--collector: never with --delete-untagged (-m): it deletes the platforms of images that have several")

    async def look(self) -> Marked:
        """What it would collect."""
        return await self._run([*self._collect, "--dry-run"], ())

    async def collect(self, files: Iterable[int]) -> Marked:
        """Collect."""
        return await self._run(self._collect, files)

    async def restart(self) -> bool:
        """Have the registry restarted; False where there is no command for it."""
        if self._restarts:
            await self._run(self._restarts, ())
        return bool(self._restarts)

    async def _run(self, command: Sequence[str], files: Iterable[int]) -> Marked:
        manifests: dict[str, set[str]] = {}
        garbage, links, complaints = set[str](), set[tuple[str, str]](), deque[str](maxlen=_LAST_WORDS)

        async def read(said: StreamReader) -> None:
            async for line in said:
                words = line.decode(errors="replace").strip()
                if (found := _MANIFEST.fullmatch(words)) and is_digest(found[2]):
                    manifests.setdefault(found[1], set()).add(found[2])
                elif (found := _GARBAGE.fullmatch(words)) and is_digest(found[1]):
                    garbage.add(found[1])
                elif (found := _LINK.fullmatch(words)) and is_digest(found[2]):
                    links.add((found[1], found[2]))

        async def hear(said: StreamReader) -> None:
            async for line in said:
                complaints.append(line.decode(errors="replace"))

        process = await _started(command, files)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read(_there(process.stdout)))
                group.create_task(hear(_there(process.stderr)))
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code:
            raise RefusedError(f"running {os.path.basename(command[0])}", f"exit code {code}: {one_line(' '.join(complaints)) or 'it said nothing'}")  # noqa: PTH119 - a name in PATH
        return Marked({name: frozenset(each) for name, each in manifests.items()}, frozenset(garbage), frozenset(links))


def _there(pipe: StreamReader | None) -> StreamReader:
    assert pipe is not None  # noqa: S101 - it was asked for
    return pipe


async def _started(command: Sequence[str], files: Iterable[int]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, pass_fds=tuple(files))
    except OSError as error:
        raise UsageError(f"{command[0]} can't be run: {error.strerror}. Is it installed, and is the name right?") from None


def _words(command: str | Sequence[str], option: str) -> list[str]:
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not words:
        raise UsageError(f"{option}: expected a command line")
    return words
