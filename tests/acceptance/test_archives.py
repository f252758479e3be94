"""`wharf import` and `wharf export` as an operator sees them, on archives that engines and skopeo make, and back again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from controller.domain.spec import API_VERSION
from tests.acceptance.wharf import WHARF, Done, wharf
from tests.support.archives import layer, saved, tar_of, written
from tests.support.scene import Scene, publish, tags_of
from tests.support.servers import EngineServer, RegistryServer, build_image, free_port


def run(*arguments: str | Path, home: Path) -> Done:
    """The command, with a state folder that it does not need."""
    return wharf(*arguments, state=home / "state")


def _skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


def _filled(engine: EngineServer) -> dict[str, str]:
    """Two images that share a layer, three tags; their Ids."""
    build_image(engine, "cyroid/kali:1", {"shared": b"s" * 70_000, "one": os.urandom(50_000)})
    build_image(engine, "cyroid/web:2", {"shared": b"s" * 70_000, "two": os.urandom(300)})
    engine.docker("tag", "cyroid/kali:1", "cyroid/kali:latest")
    return {name: engine.docker("inspect", "-f", "{{.Id}}", name) for name in ("cyroid/kali:1", "cyroid/kali:latest", "cyroid/web:2")}


def _lines(done: Done) -> dict[str, str]:
    """The digest of each image that the command names."""
    return {line.split()[0]: line.split()[1] for line in done.out.splitlines()}


def _id(engine: EngineServer, name: str) -> str:
    return engine.docker("inspect", "-f", "{{.Id}}", name)


def _written(home: Path, names: str) -> list[Path]:
    return list(home.glob(names))


@pytest.mark.parametrize("pack", ["plain", "gzip", "stream"])
def test_what_an_engine_saved_is_pulled_and_loaded_as_the_same_image(
    either_engine: EngineServer, registry: RegistryServer, tmp_path: Path, pack: str
) -> None:
    """docker save, wharf import, docker pull: the same Id. wharf export, docker load: the same Id. All names, on both engines."""
    ids = _filled(either_engine)
    file = tmp_path / "saved.tar"
    either_engine.docker("save", "-o", str(file), *ids)
    if pack == "gzip":
        file.write_bytes(gzip.compress(file.read_bytes()))
    if pack == "stream":
        with file.open("rb") as data:
            said = subprocess.run([*WHARF, "import", "--registry", registry.url, "-"], stdin=data, capture_output=True, text=True, check=False)
        done = Done(said.returncode, said.stdout, said.stderr)
    else:
        done = run("import", "--registry", registry.url, file, home=tmp_path)
    assert (done.code, set(_lines(done)), done.err) == (0, set(ids), "")
    either_engine.clear()
    for name, image_id in ids.items():
        either_engine.docker("pull", f"{registry.address}/{name}")
        assert _id(either_engine, f"{registry.address}/{name}") == image_id
        either_engine.clear()
        out = tmp_path / "exported.tar"
        exported = run("export", "--registry", registry.url, name, "-o", out, home=tmp_path)
        assert exported.code == 0, exported.err
        either_engine.docker("load", "-i", str(out))
        assert _id(either_engine, name) == image_id
        either_engine.clear()


def test_from_one_engine_to_the_other(engine: EngineServer, newer_engine: EngineServer, registry: RegistryServer, tmp_path: Path) -> None:
    """What the old engine saved is loaded by the newer one, whose Id is the registry's digest; and back, by its config."""
    ids = _filled(engine)
    engine.docker("save", "-o", str(tmp_path / "old.tar"), "cyroid/kali:1")
    digest = _lines(run("import", "--registry", registry.url, tmp_path / "old.tar", home=tmp_path))["cyroid/kali:1"]
    run("export", "--registry", registry.url, "cyroid/kali:1", "-o", tmp_path / "out.tar", home=tmp_path)
    newer_engine.docker("load", "-i", str(tmp_path / "out.tar"))
    assert _id(newer_engine, "cyroid/kali:1") == digest
    newer_engine.docker("save", "-o", str(tmp_path / "new.tar"), "cyroid/kali:1")
    again = _lines(run("import", "--registry", registry.url, "--name", "back/kali:1", tmp_path / "new.tar", home=tmp_path))
    assert again == {"back/kali:1": digest}
    run("export", "--registry", registry.url, "back/kali:1", "-o", tmp_path / "out.tar", home=tmp_path)
    engine.clear()
    engine.docker("load", "-i", str(tmp_path / "out.tar"))
    assert _id(engine, "back/kali:1") == ids["cyroid/kali:1"]


def test_what_a_newer_engine_with_the_classic_store_saves(newer_engine: EngineServer, registry: RegistryServer, tmp_path: Path) -> None:
    """Export of ours through the newer engine: manifest bytes stay what they were, digest and all."""
    _filled(newer_engine)
    newer_engine.docker("save", "-o", str(tmp_path / "new.tar"), "cyroid/web:2")
    with tarfile.open(tmp_path / "new.tar") as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        expected = json.load(index)["manifests"][0]["digest"]
    assert _lines(run("import", "--registry", registry.url, tmp_path / "new.tar", home=tmp_path)) == {"cyroid/web:2": expected}


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_wrote_and_reads(engine: EngineServer, registry: RegistryServer, tmp_path: Path, transport: str) -> None:
    """Each of its archives comes in; an OCI layout keeps its digest. It reads what we export, with the same digest."""
    _filled(engine)
    engine.docker("save", "-o", str(tmp_path / "saved.tar"), "cyroid/kali:1")
    place = f"{tmp_path}/{transport}"
    _skopeo("copy", f"docker-archive:{tmp_path}/saved.tar", f"{transport}:{place}:cyroid/kali:1")
    done = run("import", "--registry", registry.url, place, home=tmp_path)
    assert (done.code, done.err) == (0, "")
    digest = _lines(done)["cyroid/kali:1"]
    if transport != "docker-archive":
        assert digest == _skopeo("inspect", "-f", "{{.Digest}}", f"{transport}:{place}:cyroid/kali:1").strip()
    ours = tmp_path / "ours.tar"
    run("export", "--registry", registry.url, "cyroid/kali:1", "-o", ours, home=tmp_path)
    assert _skopeo("inspect", "-f", "{{.Digest}}", f"oci-archive:{ours}:1").strip() == digest
    config = json.loads(_skopeo("inspect", "--config", "--raw", f"docker-archive:{ours}"))
    assert config == json.loads(_skopeo("inspect", "--config", "--raw", "--tls-verify=false", f"docker://{registry.address}/cyroid/kali:1"))


def test_export_to_a_pipe(registry: RegistryServer, tmp_path: Path) -> None:
    """To standard output goes the tar and nothing else, the same bytes as to a file; what is to be said goes to standard error."""
    run("import", "--registry", registry.url, written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [layer("one")]}))), home=tmp_path)
    piped = subprocess.run([*WHARF, "export", "--registry", registry.url, "cyroid/kali:1"], capture_output=True, check=True)
    run("export", "--registry", registry.url, "cyroid/kali:1", "-o", tmp_path / "out.tar", home=tmp_path)
    assert piped.stdout == (tmp_path / "out.tar").read_bytes()
    assert b"cyroid/kali:1  sha256:" in piped.stderr


def test_a_reader_that_does_not_read(registry: RegistryServer, tmp_path: Path) -> None:
    """Who sends an archive to a program that hangs can still be interrupted; one that ends early is no traceback."""
    run("import", "--registry", registry.url, written(tmp_path / "b.tar", tar_of(saved({"cyroid/kali:2": [os.urandom(3_000_000)]}))), home=tmp_path)
    with subprocess.Popen([*WHARF, "export", "--registry", registry.url, "cyroid/kali:2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as hanging:
        assert hanging.stdout is not None
        assert hanging.stdout.read(512), "it has begun"
        hanging.send_signal(signal.SIGINT)
        assert hanging.wait(60) == 130
        assert hanging.stderr is not None
        assert b"Traceback" not in hanging.stderr.read()
    with subprocess.Popen([*WHARF, "export", "--registry", registry.url, "cyroid/kali:2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as early:
        assert early.stdout is not None
        assert early.stderr is not None
        early.stdout.read(512)
        early.stdout.close()
        assert early.wait(60) == 1
        assert b"Traceback" not in early.stderr.read()


async def test_one_platform_of_several(registry: RegistryServer, tmp_path: Path) -> None:
    """All of them by default; with --platform that one alone, or an error that says which there are."""
    index = await publish(registry, "cyroid/kali", "1", platforms=["linux/amd64", "linux/arm64"])
    run("export", "--registry", registry.url, "cyroid/kali:1", "-o", tmp_path / "all.tar", home=tmp_path)
    assert _lines(run("import", "--registry", registry.url, "--name", "other/all:1", tmp_path / "all.tar", home=tmp_path)) == {
        "other/all:1": index.digest
    }
    one = run("export", "--registry", registry.url, "--platform", "linux/arm64", "cyroid/kali:1", "-o", tmp_path / "one.tar", home=tmp_path)
    assert index.children[1].digest in one.err
    none = run("export", "--registry", registry.url, "--platform", "linux/s390x", "cyroid/kali:1", "-o", tmp_path / "none.tar", home=tmp_path)
    assert (none.code, "it has linux/amd64, linux/arm64" in none.err) == (2, True)
    assert not _written(tmp_path, "none.tar*")


async def test_a_damaged_blob_is_not_exported(registry: RegistryServer, tmp_path: Path) -> None:
    """The bytes are hashed on their way: exit code 2, and no file that could be taken for the image."""
    manifest = await publish(registry, "cyroid/kali", "1")
    registry.damage(manifest.layers[0].digest)
    done = run("export", "--registry", registry.url, "cyroid/kali:1", "-o", tmp_path / "out.tar", home=tmp_path)
    assert (done.code, "other bytes than its digest says" in done.err) == (2, True)
    assert not _written(tmp_path, "out.tar*")


def test_zstd_is_said_to_those_who_load_it(registry: RegistryServer, tmp_path: Path) -> None:
    """Packed as zstd it comes out as zstd, with a note that old engines can't read it."""
    file = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [layer("one")]})))
    assert run("import", "--registry", registry.url, "--compression", "zstd", file, home=tmp_path).code == 0
    done = run("export", "--registry", registry.url, "cyroid/kali:1", "-o", tmp_path / "out.tar", home=tmp_path)
    assert (done.code, "engines before 23 can't read" in done.err) == (0, True)


def test_exit_codes(registry: RegistryServer, tmp_path: Path) -> None:
    """0 all; 2 an image failed and the others are there; 1 a file; 3 no registry; the worst of several counts."""
    good = written(tmp_path / "good.tar", tar_of(saved({"cyroid/kali:1": [layer("one")]})))
    members = saved({"cyroid/web:1": [layer("web")], "cyroid/web:2": [layer("two")]})
    members[f"{hashlib.sha256(layer('web')).hexdigest()}/layer.tar"] = layer("other")
    bad = written(tmp_path / "bad.tar", tar_of(members))
    to = ("--registry", registry.url)
    partly = run("import", *to, good, bad, home=tmp_path)
    assert (partly.code, set(_lines(partly)), "the config says" in partly.err) == (2, {"cyroid/kali:1", "cyroid/web:2"}, True)
    again = run("import", *to, good, home=tmp_path)
    assert (again.code, "there already" in again.out) == (0, True)
    none = run("import", *to, tmp_path / "none.tar", good, home=tmp_path)
    assert (none.code, "no such file" in none.err, set(_lines(none))) == (1, True, {"cyroid/kali:1"})
    assert run("import", "--registry", f"http://127.0.0.1:{free_port()}", good, home=tmp_path).code == 3
    assert run("import", "--registry", "127.0.0.1", good, home=tmp_path).code == 1
    assert run("import", *to, "--name", "quay.io/x/y:1", good, home=tmp_path).code == 1
    assert run("import", home=tmp_path).code == 1
    assert run("export", *to, "cyroid/none:1", home=tmp_path).code == 2


def test_the_registry_of_the_files(registry: RegistryServer, tmp_path: Path) -> None:
    """Without --registry it is the one that the desired state names, and names belong where the files say."""
    spec = {"registry": {"url": registry.url}}
    wharf_ = {"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "default"}, "spec": spec}
    images = {"apiVersion": API_VERSION, "kind": "ImageSet", "metadata": {"name": "s"}, "spec": {"images": [{"name": "docker.io/library/nginx:1"}]}}
    (tmp_path / "desired-state.yaml").write_text(yaml.safe_dump_all([wharf_, images]))
    file = written(tmp_path / "a.tar", tar_of(saved({"nginx:1": [layer("one")], "nginx:2": [layer("two")]})))
    done = run("import", "-f", tmp_path / "desired-state.yaml", file, home=tmp_path)
    assert (done.code, set(_lines(done))) == (0, {"docker.io/library/nginx:1", "nginx:2"})
    out = run("export", "-f", tmp_path / "desired-state.yaml", "docker.io/library/nginx:1", "-o", tmp_path / "out.tar", home=tmp_path)
    assert out.code == 0, out.err
    with tarfile.open(tmp_path / "out.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["nginx:1"]


async def test_what_a_tag_meant_before_is_held(registry: RegistryServer, tmp_path: Path) -> None:
    """Law 1, on a real registry."""
    old = await publish(registry, "cyroid/kali", "1")
    file = written(tmp_path / "a.tar", tar_of(saved({"cyroid/kali:1": [layer("one")]})))
    digest = _lines(run("import", "--registry", registry.url, file, home=tmp_path))["cyroid/kali:1"]
    assert await tags_of(registry, "cyroid/kali") == {"1": digest, f"wharf-held-{old.digest[7:19]}": old.digest}


async def test_what_was_imported_is_recorded_where_files_name_the_wharf(scene: Scene) -> None:
    """The trail tells who, what before and what after; what was there already is nothing; with a registry alone nothing is kept."""
    scene.build("cyroid/kali:1")
    archive, state = scene.folder / "kali.tar", scene.state
    scene.engine.docker("save", "-o", str(archive), "cyroid/kali:1")
    assert wharf("import", "--registry", scene.registry.url, "--name", "cyroid/other:1", archive, state=state).code == 0
    assert not state.exists()
    before = (await publish(scene.registry, "cyroid/kali", "1")).digest
    for _ in range(2):
        assert wharf("import", "-f", scene.file, archive, state=state).code == 0
    (entry,) = wharf("history", "-o", "json", "-f", scene.file, state=state).json
    digest = (await tags_of(scene.registry, "cyroid/kali"))["1"]
    expected = ["import", "Import", "cyroid/kali:1", "Outdated", before, digest, None]
    assert [entry[key] for key in ("actor", "action", "image", "reason", "before", "after", "error")] == expected
    told = wharf("explain", "cyroid/kali:1", "-f", scene.file, state=state).out
    assert "imported from an archive by `wharf import`" in told
    assert wharf("restore", "cyroid/kali:1", "-f", scene.file, state=state).out == f"cyroid/kali:1 {before}\n"
