"""The Dockerfile folders and archives that images come from: whose changed is due at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from controller.domain.desired import ArchiveSource, BuildSource, Desired
from controller.domain.ports.hosts import Contexts
from controller.domain.reference import Target
from controller.engine.pathwatch import PathWatch

SETTLES = 1.0
"""Seconds in which nothing may change before it is acted on: an editor saves in several steps, an archive is written for minutes."""

_NOISE = re.compile(
    r"(\.git|\.hg|\.svn|\.idea|__pycache__|node_modules)(/|$)"  # what tools keep for themselves
    r"|\.[^/]*\.sw.$|[^/]*~$|\.#[^/]*$|#[^/]*#$|4913$|\.goutputstream-[^/]*$|[^/]*___jb_[^/]*$"  # what editors leave for a moment
)


class SourceWatch:
    """Tells of each image whose folder or archive changed. What never settles, and what is noise here, is found by the next full look."""

    def __init__(self, contexts: Contexts, told: Callable[[Target], None]) -> None:
        self._contexts = contexts
        self._told = told
        self._images: dict[Path, dict[Target, BuildSource | ArchiveSource]] = {}
        self._watch = PathWatch(self._changed, concerns=self._concerns, settles=SETTLES)

    def watch(self, desired: Desired) -> None:
        """From now on what this desired state names."""
        self._images = {}
        for image in desired.images:
            match image.source:
                case BuildSource(context=path) | ArchiveSource(path=path):
                    self._images.setdefault(Path(path), {})[image.target] = image.source
                case _:
                    continue
        self._watch.watch(self._images)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._watch.run()

    def _changed(self, path: Path) -> None:
        for target in self._images.get(path, ()):
            self._told(target)

    async def _concerns(self, path: Path, changed: Collection[Path]) -> bool:
        """Whether one of the images depends on something that changed."""
        names = [name for each in changed if not is_noise(name := each.relative_to(path).as_posix())]
        for source in set(self._images.get(path, {}).values()) if names else ():
            if isinstance(source, ArchiveSource) or await self._contexts.concerned(source, names):
                return True
        return False


def is_noise(name: str) -> bool:
    """Whether a path in a folder is what editors and tools leave behind while people work."""
    return any(_NOISE.match(name, start) for start in (0, *(match.end() for match in re.finditer("/", name))))
