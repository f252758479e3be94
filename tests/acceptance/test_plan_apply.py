"""plan, apply and status as an operator sees them: exit codes, JSON forms, saved plans."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from tests.acceptance.wharf import wharf
from tests.support.scene import Scene, publish, tags_of

ROW = {"action", "image", "host", "reason", "message", "bytes"}
NGINX = "docker.io/library/nginx:1"


@pytest.fixture
async def work(scene: Scene) -> Scene:
    """One image to push and evict, one to copy, one that waits for later machinery nowhere."""
    scene.build("cyroid/kali:1")
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": "cyroid/kali:1"}, {"name": NGINX}]
    return scene


def test_plan_apply_plan(work: Scene) -> None:
    """The whole way: 2 with work to do, 0 after apply, and the second plan is empty."""
    file, state = work.file, work.state
    first = wharf("plan", file, state=state)
    assert first.code == 2
    assert [line.split()[:3] for line in first.out.splitlines() if line and line[0] in "+^-x!"] == [
        ["^", "push", "cyroid/kali:1"],
        ["-", "evict", "cyroid/kali:1"],
        ["+", "copy", NGINX],
    ]
    assert "Plan: 1 to copy" in first.out
    applied = wharf("apply", file, state=state)
    assert applied.code == 0, applied.err
    assert "✓ ^ push cyroid/kali:1 from local" in applied.out
    second = wharf("plan", file, state=state)
    assert (second.code, "Nothing to do" in second.out) == (0, True)


def test_plan_as_json(work: Scene) -> None:
    """A list, one entry a set, each row with the same fields; YAML says the same."""
    work.images.append({"name": "cyroid/win:1", "source": {"archive": {"path": "win.tar"}}})
    done = wharf("plan", "-o", "json", work.file, state=work.state)
    assert done.code == 2
    (entry,) = done.json
    assert (entry["imageSet"], entry["converged"]) == ("ranges", False)
    assert all(set(row) == ROW for row in entry["actions"] + entry["heldBack"])
    assert [(row["action"], row["image"], row["host"], row["reason"]) for row in entry["actions"]] == [
        ("Push", "cyroid/kali:1", "local", "OnHostOnly"),
        ("Evict", "cyroid/kali:1", "local", "Lingers"),
        ("Copy", NGINX, None, "Missing"),
    ]
    assert all(row["bytes"] > 0 for row in entry["actions"])
    assert [(row["action"], row["image"], row["reason"]) for row in entry["heldBack"]] == [("Import", "cyroid/win:1", "NotFound")]
    assert yaml.safe_load(wharf("plan", "-o", "yaml", work.file, state=work.state).out) == done.json


def test_status_as_json(work: Scene) -> None:
    """One entry a set, with each image's place and conditions."""
    before = wharf("status", "-o", "json", work.file, state=work.state)
    assert before.code == 2
    (entry,) = before.json
    kali, nginx = entry["images"]
    assert (kali["name"], kali["inRegistry"], kali["onHosts"], kali["needsPush"]) == ("cyroid/kali:1", False, ["local"], True)
    assert kali["provenance"] is None
    assert (nginx["inRegistry"], nginx["onHosts"], nginx["needsPush"], nginx["digest"]) == (False, [], False, None)
    assert {condition["type"] for condition in kali["conditions"]} == {"Ready", "InRegistry", "HostClean", "DigestChanged"}
    assert yaml.safe_load(wharf("status", "-o", "yaml", work.file, state=work.state).out) == before.json
    assert wharf("apply", work.file, state=work.state).code == 0
    after = wharf("status", "-o", "json", work.file, state=work.state)
    assert (after.code, after.json[0]["ready"]) == (0, True)
    assert [image["provenance"]["by"] for image in after.json[0]["images"]] == ["Listed", "Upstream"]
    assert all(image["inRegistry"] and image["digest"].startswith("sha256:") and image["lastError"] is None for image in after.json[0]["images"])


def test_since_when_a_condition_is_so(work: Scene) -> None:
    """By the looks of `apply` and `run`: a time changes only when the status does; a command that only looks keeps nothing."""

    def ready(command: str = "status") -> tuple[str, str | None]:
        images = wharf(command, "-o", "json", work.file, state=work.state).json[0]["images"]
        (found,) = (each for each in images[0]["conditions"] if each["type"] == "Ready")
        return found["status"], found["lastTransitionTime"]

    assert ready() == ("False", None)
    assert wharf("apply", work.file, state=work.state).code == 0
    first = ready()
    assert (first[0], str(first[1])[-1]) == ("True", "Z")
    time.sleep(1.1)  # The times have whole seconds.
    assert wharf("apply", work.file, state=work.state).code == 0
    assert ready() == first
    work.host = {"gracePeriod": "1h"}
    work.build("cyroid/kali:1")
    assert wharf("apply", work.file, state=work.state).code == 2
    then = ready()
    assert (then[0], str(then[1]) > str(first[1])) == ("False", True)


def test_apply_as_json_keeps_progress_off_standard_output(work: Scene) -> None:
    """Standard output is the plan that is left, and nothing else; progress goes to standard error."""
    done = wharf("apply", "-o", "json", work.file, state=work.state)
    assert (done.code, done.json[0]["converged"]) == (0, True)
    assert "push cyroid/kali:1" in done.err


def test_a_failing_image_is_named(work: Scene) -> None:
    """Exit code 2, the others done, and the error says which image and why."""
    work.host = {"registryAddress": "127.0.0.1:1"}
    done = wharf("apply", work.file, state=work.state)
    assert done.code == 2
    assert "2 of 3 failed" in done.err
    assert "127.0.0.1:1/cyroid/kali:1" in done.err
    assert "refused" in done.err
    status = wharf("status", "-o", "json", work.file, state=work.state).json[0]["images"]
    assert "refused" in status[0]["lastError"]
    assert status[1]["lastError"] is None


async def test_a_saved_plan_is_done_exactly(work: Scene) -> None:
    """What came after the plan is not touched."""
    file, saved = work.file, work.folder / "plan.json"
    assert wharf("plan", "--out", saved, file, state=work.state).code == 2
    work.host = {"adopt": ["tools/*"]}
    work.build("tools/late:1")
    done = wharf("apply", "--plan", saved, work.file, state=work.state)
    assert "push cyroid/kali:1" in done.out
    assert await tags_of(work.registry, "tools/late") == {}
    assert done.code == 2, "the late image is still to be pushed"


async def test_a_saved_plan_knows_its_files(work: Scene) -> None:
    """Without files `apply --plan` reads those that the plan was made of."""
    saved = work.folder / "plan.json"
    wharf("plan", "--out", saved, work.file, state=work.state)
    assert wharf("apply", "--plan", saved, state=work.state).code == 0


async def test_a_saved_plan_is_refused_when_the_world_moved(work: Scene) -> None:
    """One action that would not be planned today, and nothing of it is done."""
    saved = work.folder / "plan.json"
    wharf("plan", "--out", saved, work.file, state=work.state)
    work.build("cyroid/kali:1")
    done = wharf("apply", "--plan", saved, work.file, state=work.state)
    assert done.code == 2
    assert "the world has moved" in done.err
    assert await tags_of(work.registry, "docker.io/library/nginx") == {}
    assert work.tags_on_host() == {"cyroid/kali:1"}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "wharfinger.dev/plan/v2"}', "\x00"])
def test_what_is_no_saved_plan(work: Scene, content: str) -> None:
    """Exit code 1 with the file's name."""
    saved = work.folder / "plan.json"
    saved.write_text(content)
    done = wharf("apply", "--plan", saved, work.file, state=work.state)
    assert (done.code, str(saved) in done.err.replace("\n", "")) == (1, True)


def test_a_registry_that_is_down(work: Scene) -> None:
    """Exit code 3 for plan, apply and status, with the address and what to do."""
    work.registry.stop()
    for command in ("plan", "apply", "status"):
        done = wharf(command, work.file, state=work.state)
        assert done.code == 3, command
        assert work.registry.url in done.err
    assert work.tags_on_host() == {"cyroid/kali:1"}


def test_every_host_that_is_down(work: Scene) -> None:
    """Exit code 3, with the socket."""
    work.host = {"engine": "unix:///nowhere/docker.sock"}
    done = wharf("plan", work.file, state=work.state)
    assert done.code == 3
    assert "unix:///nowhere/docker.sock" in done.err


def test_a_confirmed_engine(work: Scene) -> None:
    """Another engine under the name is refused until --confirm-engine says that it is meant."""
    from contextlib import closing

    from controller.store.sqlite import SqliteStore

    with closing(SqliteStore(work.state)) as store:
        store.set_engine("local", "another engine")
    assert wharf("apply", work.file, state=work.state).code == 3
    assert wharf("apply", "--confirm-engine", "local", work.file, state=work.state).code == 0
    assert wharf("apply", "--confirm-engine", "other", work.file, state=work.state).code == 1


def test_init_from_host(scene: Scene, tmp_path: Path) -> None:
    """The draft is a valid file: what is there, what is in use, what each would free; and it converges when applied."""
    scene.build("cyroid/kali:1", size=300_000)
    scene.build("12.30:7")
    with scene.engine.client() as engine:
        engine.containers.create("12.30:7", "nothing", name="service")
    file = tmp_path / "draft.yaml"
    done = wharf("init", "--from-host", scene.engine.url, "--registry", scene.registry.url, "--out", file, state=scene.state)
    assert (done.code, done.out) == (0, "")
    wharf_document, image_set = yaml.safe_load_all(file.read_text())
    assert [entry["name"] for entry in image_set["spec"]["images"]] == ["cyroid/kali:1", "12.30:7"]
    assert wharf_document["spec"]["hosts"][0]["keep"] == ["12.30:7"]
    text = file.read_text()
    assert "# frees 300.0 kB" in text
    assert "in use by service" in text
    assert wharf("validate", file, state=scene.state).code == 0
    assert wharf("apply", file, state=scene.state).code == 2, "mode Push holds the evictions back"
    assert scene.pulled_back("cyroid/kali:1") == scene.id_on_host("cyroid/kali:1")
    again = wharf("init", "--from-host", scene.engine.url, "--out", file, state=scene.state)
    assert (again.code, "exists already" in again.err) == (1, True)


def test_schema_and_version(tmp_path: Path) -> None:
    """The JSON Schema of the files; the version in every form."""
    schema = wharf("schema", state=tmp_path).json
    assert schema["$schema"].startswith("https://json-schema.org/")
    plain, data = wharf("version", state=tmp_path), wharf("version", "-o", "json", state=tmp_path)
    assert plain.out == f"wharf {data.json['version']}\n"
    assert json.loads(data.out).keys() == {"version"}


def test_a_folder_for_the_state(work: Scene) -> None:
    """A text that ends with a slash is a folder, made when it is not there; the file in it bears the Wharf's name."""
    assert wharf("apply", "--state", f"{work.folder}/kept/", work.file, state=work.state).code == 0
    assert (work.folder / "kept" / "default.sqlite").is_file()


async def test_upstreams_are_not_asked_again_within_refresh(scene: Scene) -> None:
    """A second plan says that upstream was not asked, and how to ask it; then it sees that the tag moved."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": NGINX}]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    await publish(scene.internet, "library/nginx", "1")
    second = wharf("plan", scene.file, state=scene.state)
    assert (second.code, "--refresh asks them now" in second.out) == (0, True), second.out
    asked = wharf("plan", "--refresh", scene.file, state=scene.state)
    assert (asked.code, "Outdated" in asked.out, "--refresh" in asked.out) == (2, True, False), asked.out
    assert wharf("apply", "--refresh", scene.file, state=scene.state).code == 0
