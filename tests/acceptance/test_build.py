"""`wharf build` as an operator uses it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from controller.store.sqlite import SqliteStore
from tests.acceptance.wharf import TIMEOUT, WHARF, Done, wharf
from tests.conftest import StartRegistry
from tests.support.folders import folder, sleeping, with_shell
from tests.support.scene import Scene, publish, tags_of

KILLS = int(os.environ.get("WHARF_KILLS", "12"))

FILES = {"Dockerfile": "ARG WORD=none\nFROM scratch\nARG WORD\nCOPY data /\nLABEL word=$WORD\n", "data": "data", "image.yaml": "tag: cyroid/kali:1\n"}


def _build(scene: Scene, *arguments: str, files: dict[str, str] | None = None) -> Done:
    top = folder(scene.folder / "kali", FILES if files is None else files)
    return wharf("build", top, "-f", scene.file, *arguments, state=scene.state)


def _stray(scene: Scene) -> bool:
    """Whether anything is left of a build: an image, or a journal entry."""
    with scene.engine.client() as engine, closing(SqliteStore(scene.state)) as store:
        return bool(engine.api.images() or store.open_pushes())


async def test_a_folder_comes_to_the_registry_and_is_skipped_the_second_time(either_scene: Scene) -> None:
    """Built by the one host, under the name that image.yaml says; the same folder again is not built, a changed one is."""
    scene = either_scene
    done = _build(scene)
    assert done.code == 0, done.err
    tags = await tags_of(scene.registry, "cyroid/kali")
    assert done.out == f"cyroid/kali:1 {tags['1']}\n"
    assert "+ build cyroid/kali:1" in done.err
    assert not _stray(scene)
    again = _build(scene)
    assert again.code == 0, again.err
    assert (again.out, "nothing to do" in again.err) == (done.out, True)
    other = _build(scene, "--arg", "WORD=a=b")
    assert other.code == 0, other.err
    assert set(await tags_of(scene.registry, "cyroid/kali")) == {"1", f"wharf-held-{tags['1'][7:19]}"}
    scene.engine.docker("pull", "-q", f"{scene.registry.address}/cyroid/kali:1")
    assert scene.engine.docker("image", "inspect", "-f", "{{.Config.Labels.word}}", f"{scene.registry.address}/cyroid/kali:1") == "a=b"
    with closing(SqliteStore(scene.state)) as store:
        assert [(entry.action, entry.actor, entry.error) for entry in store.history("cyroid/kali:1")] == [("Build", "build", "")] * 2


async def test_another_name_and_the_folders_own(scene: Scene) -> None:
    """--name before image.yaml, and without either the folder's name."""
    assert _build(scene, "--name", "tools/other").code == 0
    assert set(await tags_of(scene.registry, "tools/other")) == {"latest"}
    (scene.folder / "kali/image.yaml").unlink()
    plain = {name: text for name, text in FILES.items() if name != "image.yaml"}
    assert _build(scene, files=plain).code == 0
    assert set(await tags_of(scene.registry, "kali")) == {"latest"}


async def test_what_was_there_is_held(scene: Scene) -> None:
    """An image that somebody else put under that tag is kept under its own."""
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    assert _build(scene).code == 0
    assert (await tags_of(scene.registry, "cyroid/kali"))[f"wharf-held-{theirs.digest[7:19]}"] == theirs.digest


async def test_a_failed_build_shows_the_step_and_its_output(scene: Scene) -> None:
    """Exit code 2; the step, its last lines, and nothing that moves the terminal; nothing is left on the host."""
    with_shell(scene.folder / "kali")
    steps = "FROM scratch\nCOPY shell /\nRUN echo '[red]compiling[/red]'; printf '\\033[2Jno rule to make x\\n'; exit 3\n"
    done = _build(scene, files={**FILES, "Dockerfile": steps})
    assert done.code == 2
    assert "RUN echo" in done.err
    assert "\n  [red]compiling[/red]\n  no rule to make x\n" in done.err
    assert "\x1b" not in done.err
    assert not _stray(scene)
    assert await tags_of(scene.registry, "cyroid/kali") == {}
    with closing(SqliteStore(scene.state)) as store:
        assert "no rule to make x" in store.history("cyroid/kali:1")[0].error


def test_a_build_that_can_not_be_pushed_is_finished_later(scene: Scene, start_registry: StartRegistry) -> None:
    """Exit code 2, the image stays on the host; once the registry takes it, it goes there and leaves."""
    good, scene.registry = scene.registry, start_registry({"storage": {"maintenance": {"readonly": {"enabled": True}}}})
    done = _build(scene)
    assert done.code == 2
    assert "405" in done.err
    assert scene.tags_on_host() == {f"{scene.registry.address}/cyroid/kali:1"}
    assert wharf("apply", scene.file, state=scene.state).code == 0, "it is no image of the operator's"
    assert scene.tags_on_host() == {f"{scene.registry.address}/cyroid/kali:1"}
    text = good.config.read_text().replace(good.address, scene.registry.address)
    scene.registry.stop()
    good.stop()
    good.config.write_text(text)
    good.port = scene.registry.port
    good.start()
    assert _build(scene).code == 0
    assert not _stray(scene)


@pytest.mark.parametrize(
    ("arguments", "files", "words"),
    [
        (("--on", "nobody"), {}, "--on nobody: no such host"),
        (("--arg", "WORD"), {}, "NAME=VALUE"),
        (("--name", "quay.io/cyroid/kali"), {}, "has a domain"),
        (("--name", "Kali"), {}, "no repository"),
        ((), {"image.yaml": "tag: Kali\n"}, "image.yaml:1:6"),
        ((), {"Dockerfile": "", ".dockerignore": "[\n"}, "line 1"),
    ],
)
def test_what_a_person_has_to_mend(scene: Scene, arguments: tuple[str, ...], files: dict[str, str], words: str) -> None:
    """Exit code 1 with what is wrong, before anything is asked of anybody."""
    done = _build(scene, *arguments, files={**FILES, **files})
    assert done.code == 1
    assert words in done.err


def test_no_folder_and_no_dockerfile(scene: Scene) -> None:
    """Exit code 1."""
    done = wharf("build", scene.folder / "none", "-f", scene.file, state=scene.state)
    assert (done.code, "no such folder" in done.err) == (1, True), done.err
    done = _build(scene, files={"data": "data"})
    assert (done.code, "no such file" in done.err) == (1, True), done.err


def test_two_hosts_and_none_said(scene: Scene) -> None:
    """Who builds is never guessed."""
    hosts = [{"name": "one", "engine": f"unix://{scene.folder}/none.sock"}, {"name": "two", "engine": scene.engine.url}]
    scene.spec = {"hosts": hosts}
    done = _build(scene)
    assert (done.code, "--on HOST: the file has one, two" in done.err) == (1, True), done.err
    assert _build(scene, "--on", "two").code == 0


async def test_what_the_files_forbid(scene: Scene) -> None:
    """A file that only observes, and an image that must be absent: nothing is built."""
    scene.spec = {"mode": "Observe"}
    done = _build(scene)
    assert (done.code, "Observe" in done.err) == (2, True), done.err
    scene.spec, scene.images = {}, [{"name": "cyroid/kali:1", "ensure": "Absent"}]
    done = _build(scene)
    assert (done.code, "Absent" in done.err) == (1, True), done.err
    assert await tags_of(scene.registry, "cyroid/kali") == {}


def test_nobody_answers(scene: Scene) -> None:
    """Exit code 3 when the registry or the engine is down."""
    scene.host = {"engine": f"unix://{scene.folder}/none.sock"}
    assert _build(scene).code == 3
    scene.host = {}
    scene.registry.stop()
    assert _build(scene).code == 3


def test_an_engine_that_was_replaced_is_not_used(scene: Scene) -> None:
    """The host's name means another engine than before: refused until the operator confirms it."""
    with closing(SqliteStore(scene.state)) as store:
        store.set_engine("local", "another engine")
    done = _build(scene)
    assert done.code != 0
    assert "--confirm-engine local" in done.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_moments(scene: Scene) -> None:
    """Each round changes the folder and kills `wharf build` somewhere in its work; the build after it ends well and leaves nothing behind."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    began = time.monotonic()
    assert _build(scene, files={**FILES, "data": "first"}).code == 0
    whole = time.monotonic() - began
    command = [*WHARF, "build", str(scene.folder / "kali"), "-f", str(scene.file), "--state", str(scene.state)]
    for number in range(KILLS):
        folder(scene.folder / "kali", {"data": chance.randbytes(1_000_000)})
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(chance.uniform(whole / 3, whole * 1.1))
            except subprocess.TimeoutExpired:
                process.kill()
        assert scene.tags_on_host() <= {f"{scene.registry.address}/cyroid/kali:1"}, f"round {number}, seed {seed}"
    assert _build(scene, files={**FILES, "data": "last"}).code == 0
    assert scene.tags_on_host() == set(), f"seed {seed}"
    with closing(SqliteStore(scene.state)) as store:
        assert not store.open_pushes(), f"seed {seed}"
    scene.pulled_back("cyroid/kali:1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_middle_of_a_step(scene: Scene, number: signal.Signals) -> None:
    """The engine's build ends with it; the next one leaves nothing behind."""
    with_shell(scene.folder / "kali")
    word = str(random.randrange(10**6, 10**9))  # Other runs on this machine sleep too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # A run in the background ignores it, and what it starts would too.
    folder(scene.folder / "kali", {**FILES, "Dockerfile": f"FROM scratch\nCOPY shell /\nRUN sleep {word}\n"})
    command = [*WHARF, "build", str(scene.folder / "kali"), "-f", str(scene.file), "--state", str(scene.state)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as process:
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + TIMEOUT
        while not sleeping(word) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=TIMEOUT)
    assert "Traceback" not in said
    while sleeping(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleeping(word)
    assert _build(scene).code == 0
    assert not _stray(scene)
    scene.pulled_back("cyroid/kali:1")
