"""Shows the file, the plan, apply, status, and a second plan that is empty; on an engine and registries started here and ended here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.leftovers import remove_leftovers
from tests.support.servers import EngineServer, RegistryServer, build_image, missing_parts

HOME = Path(__file__).parents[1] / ".wharf" / "demo"

PUBLISHED = ["library/nginx:1.27", "org/base:v7", *(f"library/alpine:{tag}" for tag in ("3.18.9", "3.19.4", "3.20.3", "edge"))]

FILE = """\
apiVersion: wharfinger.dev/v1alpha1
kind: Wharf                            # where: one registry and its hosts
metadata: {{name: demo}}
spec:
  registry: {{url: {registry}}}
  upstreams:                           # this one plays the internet
    - {{domain: docker.io, url: "{internet}"}}
  hosts:
    - name: local
      engine: {engine}
      adopt: ["cyroid/**"]             # what is built here goes to the registry, listed or not
      absent: ["cyroid/**", "nginx"]   # and must not linger here
      keep: ["cyroid/portal"]          # the host's own service
      gracePeriod: 0s                  # do not wait: this is a demo
---
apiVersion: wharfinger.dev/v1alpha1
kind: ImageSet                         # what must be in the registry
metadata: {{name: ranges}}
spec:
  images:
    - name: cyroid/kali:latest         # no source: pushed from the host that has it
    - name: docker.io/library/nginx:1.27     # a domain: copied from there, as it was published
    - name: tools/base:stable
      source: {{registry: "docker.io/org/base:v7"}}
    - name: docker.io/library/alpine   # many tags of one repository
      tags: {{semver: ">=3.19", newest: 2}}
    - name: cyroid/win10:22h2          # from an archive: docker save or OCI layout
      source: {{archive: {{path: win10.tar}}}}
    - name: cyroid/router:1            # a Dockerfile folder, built on a host; it leaves nothing there
      source: {{build: {{context: router, on: local}}}}
"""


def main() -> int:
    """Run it; 0 when everything went as told."""
    if missing := missing_parts():
        sys.stderr.write(f"missing: {', '.join(missing)}; `make demo` installs it\n")
        return 1
    if os.geteuid() != 0:
        sys.stderr.write("root is needed: the demo starts a dockerd of its own\n")
        return 1
    remove_leftovers(HOME)
    HOME.mkdir(parents=True)
    with _servers() as (registry, internet, engine):
        _say("A host with images that were built and pulled there, a registry, and a second registry that plays the internet.")
        _prepare(internet, engine)
        file = HOME / "desired-state.yaml"
        file.write_text(FILE.format(registry=registry.url, internet=internet.url, engine=engine.url))
        done = _show(engine, file)
    if done:
        _say(f"Nothing runs any more. The file is {file}.")
        _say("To go on with your own host:  .venv/bin/wharf init --from-host --out my.yaml;  .venv/bin/wharf plan my.yaml")
    return 0 if done else 1


@contextmanager
def _servers() -> Iterator[tuple[RegistryServer, RegistryServer, EngineServer]]:
    sockets = Path(tempfile.mkdtemp(prefix="wharf-demo-"))  # A Unix socket's path may have 107 bytes only, a checkout's more.
    registry, internet = RegistryServer(HOME / "registry"), RegistryServer(HOME / "internet")
    engine = EngineServer(HOME / "engine")
    engine.socket = sockets / "docker.sock"
    engine.extra = [f"--registry-mirror={internet.url}"]
    try:
        yield registry.start(), internet.start(), engine.start()
    finally:
        for server in (engine, internet, registry):
            server.stop()
        shutil.rmtree(sockets)


def _prepare(internet: RegistryServer, engine: EngineServer) -> None:
    """Images are published on the internet and one of them pulled; four are built here: one runs as a service, one is only in an archive any more."""
    for name in PUBLISHED:
        published = f"{internet.address}/{name}"
        build_image(engine, published, {"content": os.urandom(4_000_000)})
        engine.docker("push", "--quiet", published)
        engine.docker("rmi", published)
    engine.docker("pull", "--quiet", "nginx:1.27")
    build_image(engine, "cyroid/win10:22h2", {"disk": os.urandom(10_000_000)})
    engine.docker("save", "--output", str(HOME / "win10.tar"), "cyroid/win10:22h2")
    engine.docker("rmi", "cyroid/win10:22h2")
    router = HOME / "router"
    router.mkdir()
    (router / "Dockerfile").write_text("FROM scratch\nCOPY routes /etc/routes\n")
    (router / "routes").write_bytes(os.urandom(1_000_000))
    build_image(engine, "cyroid/kali:latest", {"tools": os.urandom(20_000_000)})
    build_image(engine, "cyroid/historian:2", {"data": os.urandom(8_000_000)})
    engine.docker("tag", "cyroid/historian:2", "cyroid/historian:latest")
    build_image(engine, "cyroid/portal:1", {"service": os.urandom(1_000_000)})
    engine.docker("create", "--name", "portal", "cyroid/portal:1", "/service")


def _show(engine: EngineServer, file: Path) -> bool:
    _say("What the host holds:")
    sys.stdout.write(engine.docker("images") + "\n")
    _say("What the file asks for:")
    sys.stdout.write(file.read_text())
    went_well = _wharf("plan", file, expected=2) and _wharf("apply", file, expected=0)
    went_well = went_well and _wharf("status", file, expected=0) and _wharf("plan", file, expected=0)
    _say("What the host holds now: only its own service.")
    sys.stdout.write(engine.docker("images") + "\n")
    return went_well


def _wharf(command: str, file: Path, *, expected: int) -> bool:
    _say(f"$ wharf {command} {file.relative_to(HOME.parents[1])}")
    state = {"WHARF_STATE": str(HOME / "state.sqlite")}
    code = subprocess.run([sys.executable, "-m", "controller.cli.main", command, str(file)], check=False, env={**os.environ, **state}).returncode
    if code != expected:
        sys.stderr.write(f"\nthe demo did not go as it should: exit code {code}, expected {expected}; the servers' logs are in {HOME}\n")
    return code == expected


def _say(text: str) -> None:
    sys.stdout.write(f"\n\033[1m{text}\033[0m\n" if sys.stdout.isatty() else f"\n== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
