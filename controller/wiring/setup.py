"""What the files say, and what stands for them where there are none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from controller.documents.catalog import read_catalog
from controller.documents.loader import Documents, load
from controller.domain.compile import Catalogs, compile_desired, registry_address
from controller.domain.desired import Desired
from controller.domain.errors import UsageError
from controller.domain.problems import DocumentsError, Place
from controller.domain.spec import API_VERSION, Wharf, WharfSpec
from controller.domain.texts import RegistryUrl


@dataclass(frozen=True)
class Setup:
    """What the files say: the desired state, and the Wharf document for what only the edge needs.

    `base` is the folder of its file; `catalogs` are absolute.
    """

    desired: Desired
    wharf: WharfSpec
    base: Path
    catalogs: tuple[Path, ...]
    files: tuple[Path, ...] = field(compare=False)

    def same_world(self, other: Setup) -> bool:
        """Whether the same registry, upstreams and hosts serve both."""
        return (self.wharf, self.base) == (other.wharf, other.base)


def read(paths: Sequence[Path]) -> Setup:
    """Read and check the files; DocumentsError with every problem."""
    documents = load(paths)
    catalogs = _catalogs(documents)
    desired = compile_desired(documents.wharfs, documents.sets, catalogs)
    located = documents.wharfs[0]
    return Setup(desired, located.value.spec, Path(located.file).absolute().parent, tuple(map(Path, catalogs)), documents.files)


def _catalogs(documents: Documents) -> Catalogs:
    """What the catalogs hold that the sets name; DocumentsError with all that is wrong in them."""
    folders = {located.resolve(entry.catalog) for located in documents.sets for entry in located.value.spec.images if entry.catalog}
    read_all = {folder: read_catalog(Path(folder)) for folder in sorted(folders)}
    problems = [problem for _, found in read_all.values() for problem in found]
    if problems:
        raise DocumentsError(problems)
    return {folder: images for folder, (images, _) in read_all.items()}


def engine_of(named: str) -> str:
    """`env` as the engine that it means, where no certificates are needed for that."""
    if named == "env" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return named


LOCAL = "local"
"""What the one host is called where no file names it, and in drafts."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A document that no file holds."""

    value: Wharf

    def place(self, *_: str | int) -> Place:
        return Place("", 1, 1, "")

    def resolve(self, path: str) -> str:
        return path


def without_file(engine: str, registry: str) -> Setup:
    """The setup of who has no file yet: this registry, and this engine as the host `local`, as a draft would have them.

    UsageError for an engine or a URL that is none.
    """
    spec = {"registry": {"url": checked_url(registry)}, "hosts": [{"name": LOCAL, "engine": engine_of(engine)}]}
    try:
        wharf = Wharf.model_validate({"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "default"}, "spec": spec})
    except ValidationError:
        raise UsageError(f"--from-host {engine}: expected unix:///path, tcp://host:port, ssh://user@host, or env") from None
    return Setup(compile_desired([_Said(wharf)], []), wharf.spec, Path.cwd(), (), ())


def checked_url(url: str) -> str:
    """The URL of a registry as a file may have it; UsageError for another one."""
    try:
        return TypeAdapter(RegistryUrl).validate_python(url)
    except ValidationError:
        raise UsageError(f"--registry {url}: expected a URL such as http://127.0.0.1:5000, without a path and without credentials") from None


def of_registry(url: str, gateway: str | None) -> Setup:
    """The setup of who has no file: this registry, and the gateway that `wharf gateway` serves before it."""
    checked, served = checked_url(url), {"listen": gateway, "pull": "Anyone", "push": "Anyone"}
    try:
        spec = WharfSpec.model_validate({"registry": {"url": checked}} | ({"gateway": served} if gateway else {}))
    except ValidationError:
        raise UsageError(f"--gateway {gateway}: expected the address and the port where it serves, such as 127.0.0.1:5001") from None
    return Setup(Desired("gateway", frozenset({registry_address(spec)})), spec, Path.cwd(), (), ())
