"""People at work on hosts, by chance with a seed: all that they make is remembered by its content, so that each image can be accounted for."""

from __future__ import annotations

import asyncio
import platform
import random
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from controller.domain.oci import once
from controller.domain.reference import parse
from tests.support.archives import config, layer, oci_image, tar_of
from tests.support.scene import client
from tests.support.servers import EngineServer, RegistryServer, listed

WORD = "word"
"""The label by which a content is known, whatever an engine or a registry calls it."""

NAMES = [f"cyroid/{name}:{tag}" for name in "abcd" for tag in "123"]
BASES = 3
MOST_CONTAINERS = 4


def pause_program() -> bytes:
    """An ELF program of a few bytes that waits for ever (x86-64): what a container can run without a file system."""
    code = bytes.fromhex("b8220000000f05ebf7")  # mov eax, 34 (pause); syscall; jmp back
    start = 64 + 56
    header = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400000 + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, start + len(code), start + len(code), 0x1000) + code


@dataclass
class People:
    """`made` has each word that was ever given a name; `taken` those of which people took a name off, so that the last one may have been theirs."""

    chance: random.Random
    hosts: Mapping[str, EngineServer]
    internet: RegistryServer
    folder: Path
    made: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    diary: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def tell(self, what: str) -> None:
        """For the diary, which says what became of an image that is missed."""
        self.diary.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")

    def move_in(self) -> None:
        """Images that are none of our business, to tag and to make containers of."""
        for host in self.hosts.values():
            for number in range(BASES):
                self._built(host, f"strangers/base:{number}", self._word())

    def act(self) -> None:
        """One thing, somewhere. An engine may refuse it: what it was to be done with has just left."""
        ways: dict[Callable[[EngineServer], None], int] = {
            self.build: 4, self.load: 2, self.bring_in: 2, self.commit: 2, self.pull: 3, self.tag: 4, self.untag: 1, self.use: 2, self.stop: 2,
        }  # fmt: skip
        (way,) = self.chance.choices(list(ways), list(ways.values()))
        where = self.chance.choice(list(self.hosts))
        self.tell(f"{way.__name__} on {where}")
        try:
            way(self.hosts[where])
            self.done[way.__name__] += 1
        except RuntimeError:
            self.refused[way.__name__] += 1

    def build(self, host: EngineServer) -> None:
        """docker build."""
        name, word = self._name(), self._word()
        self._built(host, name, word)
        self._gave(name, word)

    def load(self, host: EngineServer) -> None:
        """docker load."""
        name, word = self._name(), self._word()
        plain = layer(word, self.chance.randrange(100, 100_000))
        raw = config([plain], config={"Labels": {WORD: word}}, history=[{"created_by": "people"}])
        listed = f'[{{"Config": "config.json", "RepoTags": ["{name}"], "Layers": ["layer.tar"]}}]'.encode()
        host.docker("load", stdin=tar_of({"config.json": raw, "layer.tar": plain, "manifest.json": listed}))
        self._gave(name, word)

    def bring_in(self, host: EngineServer) -> None:
        """docker import."""
        name, word = self._name(), self._word()
        host.docker("import", "--change", f"LABEL {WORD}={word}", "-", name, stdin=layer(word))
        self._gave(name, word)

    def commit(self, host: EngineServer) -> None:
        """docker commit."""
        name, word = self._name(), self._word()
        container = host.docker("create", self._base(), "/nothing")
        host.docker("commit", "--change", f"LABEL {WORD}={word}", container, name)
        self._gave(name, word)
        host.docker("rm", container)

    def pull(self, host: EngineServer) -> None:
        """docker pull of what somebody has just published elsewhere."""
        word = self._word()
        name = f"{self.internet.address}/pub/{self.chance.choice('xyz')}:{word}"
        asyncio.run(self._published(parse(name).repository, word))
        host.docker("pull", "-q", name)
        self._gave(name, word)

    def tag(self, host: EngineServer) -> None:
        """docker tag: a new name, or one that means something else so far."""
        image_id, _, word = self.chance.choice([image for image in self.images(host) if image[2]])
        name = self._name()
        host.docker("tag", image_id, name)
        self._gave(name, word)

    def untag(self, host: EngineServer) -> None:
        """docker rmi: if it was nowhere else yet, it is his to lose."""
        there = [(name, word) for _, names, word in self.images(host) for name in names if name in NAMES]
        if there:
            name, word = self.chance.choice(there)
            host.docker("rmi", name)
            self.tell(f"{name} is no more {word}")
            self.taken.add(word)

    def use(self, host: EngineServer) -> None:
        """A container, which runs where this engine can run one."""
        there = [name for _, names, _ in self.images(host) for name in names if name in NAMES]
        if there and len(host.docker("ps", "-aq").split()) < MOST_CONTAINERS:
            container = host.docker("create", "--network=none", self.chance.choice(there), "/pause")
            if platform.machine() == "x86_64":
                host.docker("cp", str(self._program()), f"{container}:/pause")
                host.docker("start", container)

    def stop(self, host: EngineServer) -> None:
        """The container goes."""
        containers = host.docker("ps", "-aq").split()
        if containers:
            host.docker("rm", "-f", self.chance.choice(containers))

    def leave(self) -> None:
        """No container is left."""
        for host in self.hosts.values():
            for container in host.docker("ps", "-aq").split():
                host.docker("rm", "-f", container)

    def agree(self, name: str) -> None:
        """Hosts that have different images under one name: all but the first one's get other names."""
        for host in list(self.hosts.values())[1:]:
            for image_id, names, word in self.images(host):
                if name in names:
                    other = f"cyroid/mended:{word}"
                    host.docker("tag", image_id, other)
                    self._gave(other, word)
                    host.docker("rmi", name)
                    self.taken.add(word)

    def images(self, host: EngineServer) -> list[tuple[str, list[str], str]]:
        """What a host has: Id, names, word. Sorted, so that the same chance chooses the same."""
        found = listed(host)
        return sorted((each["Id"], sorted(each["RepoTags"] or ()), (each["Labels"] or {}).get(WORD, "")) for each in found)

    def _gave(self, name: str, word: str) -> None:
        self.tell(f"{name} is {word}")
        self.made.add(word)

    def _name(self) -> str:
        return self.chance.choice(NAMES)

    def _base(self) -> str:
        return f"strangers/base:{self.chance.randrange(BASES)}"

    def _word(self) -> str:
        return f"{self.chance.getrandbits(48):012x}"

    def _built(self, host: EngineServer, name: str, word: str) -> None:
        dockerfile = f"FROM scratch\nCOPY data /data\nLABEL {WORD}={word}\n".encode()
        context = tar_of({"Dockerfile": dockerfile, "data": self.chance.randbytes(self.chance.randrange(100, 200_000))})
        host.docker("build", "-q", "-t", name, "-", stdin=context)

    async def _published(self, repository: str, word: str) -> None:
        manifest, blobs = oci_image([layer(word)], more={"config": {"Labels": {WORD: word}}})
        async with client(self.internet) as registry:
            for blob in manifest.blobs:
                await registry.write_blob(repository, blob, once(blobs[f"blobs/sha256/{blob.digest[7:]}"]))
            await registry.put_manifest(repository, word, manifest)

    def _program(self) -> Path:
        path = self.folder / "pause"
        if not path.exists():
            path.write_bytes(pause_program())
            path.chmod(0o755)
        return path
