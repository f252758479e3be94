"""Catalogs: what is an image there, what it is called, and what is wrong, each with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.documents.catalog import read_catalog
from controller.documents.text_files import MAX_FILE
from controller.domain.compile import CatalogImage
from controller.domain.problems import Place, Problem
from tests.support.folders import folder

FROM = "FROM scratch\n"


def _one_problem(top: Path) -> Problem:
    entries, problems = read_catalog(top)
    assert entries == ()
    (problem,) = problems
    return problem


def test_each_folder_with_a_dockerfile_is_an_image(tmp_path: Path) -> None:
    """By its image.yaml's tag, else by its folder; in the folders' order. What else image.yaml says is other people's."""
    about = 'name: "ICS Historian"\ntag: "cyroid/ics-historian:latest"\narch: [x86_64, arm64]\nother: {on: yes}\n'
    folder(tmp_path, {"b/Dockerfile": FROM, "b/image.yaml": about, "a/Dockerfile": FROM, "c/Dockerfile": FROM, "c/image.yaml": "# nothing\n"})
    top = str(tmp_path)
    assert read_catalog(tmp_path) == (
        (
            CatalogImage("a:latest", f"{top}/a", Place(f"{top}/a")),
            CatalogImage("cyroid/ics-historian:latest", f"{top}/b", Place(f"{top}/b/image.yaml", 2, 6, "tag")),
            CatalogImage("c:latest", f"{top}/c", Place(f"{top}/c")),
        ),
        (),
    )


def test_what_is_no_image(tmp_path: Path) -> None:
    """Hidden folders, those without a Dockerfile, deeper ones and plain files are passed over."""
    more = {".git/Dockerfile": FROM, "docs/README": "", "deep/er/Dockerfile": FROM, "Dockerfile": FROM, "d/Dockerfile/x": "", "README": ""}
    folder(tmp_path, {"a/Dockerfile": FROM, **more})
    entries, problems = read_catalog(tmp_path)
    assert [entry.name for entry in entries] == ["a:latest"]
    assert problems == ()


def test_a_tag_without_a_tag_is_latest(tmp_path: Path) -> None:
    """As everywhere."""
    folder(tmp_path, {"a/Dockerfile": FROM, "a/image.yaml": "tag: cyroid/kali\n"})
    assert read_catalog(tmp_path)[0][0].name == "cyroid/kali:latest"


def test_contexts_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the folder was called by."""
    folder(tmp_path, {"top/a/Dockerfile": FROM})
    monkeypatch.chdir(tmp_path)
    assert read_catalog(Path("top"))[0][0].context == str(tmp_path / "top/a")


@pytest.mark.parametrize(
    ("about", "line", "column", "found"),
    [
        ("name: x\ntag: Cyroid/Kali:1\n", 2, 6, "Cyroid"),
        ("tag: quay.io/cyroid/kali\n", 1, 6, "domain"),
        ("tag: 5\n", 1, 6, "5"),
        ("tag: [a]\n", 1, 6, "a list"),
        ("- tag: a\n", 1, 1, "a list"),
        ("tag: a\ntag: b\n", 2, 1, "second time"),
        ("tag: 'a\n", 2, 1, "no YAML"),
        ("tag: \x07\n", 1, 6, "control character"),
        ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)), 7, 15, "more than"),
        (f"tag: a\nx: {'[' * 80}{']' * 80}\n", 2, 67, "levels"),
    ],
)
def test_what_is_wrong_has_its_place(tmp_path: Path, about: str, line: int, column: int, found: str) -> None:
    """File, line and column, as for every other document; bombs are put out."""
    folder(tmp_path, {"a/Dockerfile": FROM, "a/image.yaml": about})
    problem = _one_problem(tmp_path)
    assert found in problem.found
    assert (problem.place.file, problem.place.line, problem.place.column) == (str(tmp_path / "a/image.yaml"), line, column)


def test_other_peoples_fields_are_theirs(tmp_path: Path) -> None:
    """What the rest of the file says, in whatever YAML, is no problem of ours."""
    folder(tmp_path, {"a/Dockerfile": FROM, "a/image.yaml": "x: !custom 1\ny: {1: 2, <<: {a: b}}\ntag: cyroid/kali:1\nz: {a: 1, a: 2}\n"})
    entries, problems = read_catalog(tmp_path)
    assert problems == ()
    assert entries[0].name == "cyroid/kali:1"


def test_a_file_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    """Never read whole."""
    folder(tmp_path, {"a/Dockerfile": FROM, "a/image.yaml": bytes(MAX_FILE + 1)})
    assert "16 MiB" in _one_problem(tmp_path).found
    folder(tmp_path, {"a/image.yaml": b"tag: a\nname: \xff\n"})
    assert _one_problem(tmp_path).place == Place(str(tmp_path / "a/image.yaml"), 2, 7)


@pytest.mark.parametrize("name", ["Kali", "a:b", "a b", "-a", "ö"])
def test_a_folder_whose_name_is_no_repositorys(tmp_path: Path, name: str) -> None:
    """A problem that says what to do; with a tag the folder may be called anything."""
    folder(tmp_path, {f"{name}/Dockerfile": FROM})
    problem = _one_problem(tmp_path)
    assert problem.place == Place(str(tmp_path / name))
    assert "`tag`" in problem.expected
    folder(tmp_path, {f"{name}/image.yaml": "tag: a"})
    assert read_catalog(tmp_path)[0][0].name == "a:latest"


def test_one_name_for_two_folders(tmp_path: Path) -> None:
    """A problem at the second that names the first."""
    folder(tmp_path, {"a/Dockerfile": FROM, "b/Dockerfile": FROM, "b/image.yaml": "tag: a:latest\n"})
    entries, (problem,) = read_catalog(tmp_path)
    assert [entry.context for entry in entries] == [str(tmp_path / "a")]
    assert problem.place == Place(str(tmp_path / "b/image.yaml"), 1, 6, "tag")
    assert str(tmp_path / "a") in problem.expected


def test_a_catalog_that_can_not_be_listed_is_never_empty(tmp_path: Path) -> None:
    """No folder, a file, and a folder that holds no image (a mount or a checkout that is missing): problems, each."""
    assert "No such file" in _one_problem(tmp_path / "none").found
    (tmp_path / "file").write_text("")
    assert "Not a directory" in _one_problem(tmp_path / "file").found
    assert "no folder with a Dockerfile" in _one_problem(tmp_path).found


def test_a_folder_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is a problem of its own, and not left out; root may read everything, so the system's refusal is made up."""
    folder(tmp_path, {"a/Dockerfile": FROM, "b/Dockerfile": FROM, "c/Dockerfile": FROM, "c/image.yaml": "tag: c"})
    real = os.stat

    def refusing(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith(("a/Dockerfile", "c/image.yaml")):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **more)

    monkeypatch.setattr(os, "stat", refusing)
    entries, problems = read_catalog(tmp_path)
    assert [entry.name for entry in entries] == ["b:latest"]
    assert [problem.place.file for problem in problems] == [str(tmp_path / "a"), str(tmp_path / "c/image.yaml")]


def test_an_image_yaml_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Only a file is read."""
    folder(tmp_path, {"a/Dockerfile": FROM})
    os.mkfifo(tmp_path / "a/image.yaml")
    assert read_catalog(tmp_path)[0][0].name == "a:latest"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_image_yaml_breaks_it(tmp_path: Path, about: str | bytes) -> None:
    """Whatever is written there: an image, or problems."""
    folder(tmp_path, {"a/Dockerfile": FROM, "a/image.yaml": about.encode("utf-8", "surrogatepass") if isinstance(about, str) else about})
    entries, problems = read_catalog(tmp_path)
    assert bool(entries) != bool(problems)
