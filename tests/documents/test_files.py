"""Files and folders: which are read, and that one which can't be read is never an empty one (law 2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.documents.loader import load
from controller.documents.text_files import MAX_FILE
from controller.domain.problems import DocumentsError
from tests.documents.texts import image_set, said, wharf


def told(*paths: Path) -> list[str]:
    """The problems of these paths."""
    with pytest.raises(DocumentsError) as caught:
        load(paths)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "d.yaml:1:1: found nothing; expected documents of kind Wharf or ImageSet"),
        (b"# only words\n---\n---\n", "d.yaml:1:1: found nothing; expected documents of kind Wharf or ImageSet"),
        (b"a: b\nc: d\xff\n", "d.yaml:2:5: found bytes that are no UTF-8; expected a text file"),
        (b"\x7fELF" + bytes(range(255, -1, -1)), "d.yaml:1:5: found bytes that are no UTF-8; expected a text file"),
        (b"a\x00b", "d.yaml:1:2: found the control character U+0000; expected a text file"),
        ("a: b\n".encode("utf-16"), "d.yaml:1:1: found bytes that are no UTF-8; expected a text file"),
        (b"#" * (MAX_FILE + 1), "d.yaml:1:1: found more than 16 MiB; expected a desired-state file"),
        (b"just words", "d.yaml:1:1: found 'just words'; expected a mapping with apiVersion, kind, metadata and spec"),
        (b"- a\n", "d.yaml:1:1: found a list; expected a mapping with apiVersion, kind, metadata and spec"),
        (b"kind: Wharf\napiVersion: v1\nmetadata: {name: a}\n", "d.yaml:1:1: spec: found nothing; expected the field 'spec'"),
        (b"apiVersion: wharfinger.dev/v1alpha1\nkind: List\nitems: []\n", "d.yaml:2:7: kind: found 'List'; expected kind: 'Wharf' or 'ImageSet'"),
        (b"apiVersion: wharfinger.dev/v1alpha1\nkind: [Wharf]\n", "d.yaml:2:7: kind: found a list; expected kind: 'Wharf' or 'ImageSet'"),
        (b"a: 1\n", "d.yaml:1:1: found nothing; expected apiVersion: 'wharfinger.dev/v1alpha1'"),
    ],
)
def test_file_that_is_no_desired_state(tmp_path: Path, raw: bytes, expected: str) -> None:
    """Each is one clear line at its place, never a traceback."""
    assert said(tmp_path, raw)[0] == expected


def test_wrong_version_and_kind_are_both_told(tmp_path: Path) -> None:
    """A document of another tool is named as a whole."""
    assert said(tmp_path, "apiVersion: v1\nkind: ConfigMap\n") == [
        "d.yaml:1:13: apiVersion: found 'v1'; expected apiVersion: 'wharfinger.dev/v1alpha1'",
        "d.yaml:2:7: kind: found 'ConfigMap'; expected kind: 'Wharf' or 'ImageSet'",
    ]


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    """A path that is not there, one that can't be, and a folder without files: all at once."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    absent, long = tmp_path / "absent.yaml", tmp_path / ("x" * 300)
    assert told(absent, empty, long) == [
        f"{absent}:1:1: found No such file or directory; expected a file that can be read",
        f"{empty}:1:1: found a folder without *.yaml files; expected desired-state files",
        f"{long}:1:1: found File name too long; expected a file that can be read",
    ]


def test_folder_is_read_whole_and_sorted(tmp_path: Path) -> None:
    """Every *.yaml and *.yml below it, through links, and nothing hidden: a mounted ConfigMap has hidden folders with the same files."""
    hidden, below, elsewhere = tmp_path / "top" / "..2024", tmp_path / "top" / "sets", tmp_path / "elsewhere"
    for folder in (hidden, below, elsewhere):
        folder.mkdir(parents=True)
    top = tmp_path / "top"
    (top / "z.yml").write_text(wharf(""))
    (hidden / "a.yaml").write_text(image_set("{name: a}"))
    (top / "a.yaml").symlink_to(hidden / "a.yaml")
    (below / "b.yaml").write_text(image_set("{name: b}"))
    (below / ".c.yaml").write_text("not read")
    (elsewhere / "d.yaml").write_text(image_set("{name: d}"))
    (top / "linked").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(top)
    documents = load([top])
    assert [file.relative_to(top).as_posix() for file in documents.files] == ["a.yaml", "linked/d.yaml", "sets/b.yaml", "z.yml"]
    assert [each.value.spec.images[0].name for each in documents.sets] == ["a", "d", "b"]
    assert documents.sets[1].file == str(top / "linked" / "d.yaml")


def test_dangling_link_in_a_folder_is_a_problem(tmp_path: Path) -> None:
    """A file that vanished must not look like a set that nobody wants any more."""
    (tmp_path / "w.yaml").write_text(wharf(""))
    (tmp_path / "s.yaml").symlink_to(tmp_path / "gone")
    assert told(tmp_path) == [f"{tmp_path}/s.yaml:1:1: found No such file or directory; expected a file that can be read"]


def test_folder_that_cannot_be_listed_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a whole folder. Root may list every folder, so the system's answer is replaced here."""
    (tmp_path / "w.yaml").write_text(wharf(""))
    (tmp_path / "locked").mkdir()
    real = __import__("os").scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    assert told(tmp_path) == [f"{tmp_path}/locked:1:1: found Permission denied; expected a folder that can be listed"]


def test_file_given_twice_is_read_once(tmp_path: Path) -> None:
    """`wharf plan config config/desired-state.yaml` has one Wharf."""
    file = tmp_path / "d.yaml"
    file.write_text(wharf(""))
    assert load([tmp_path, file, tmp_path / ".." / tmp_path.name / "d.yaml"]).files == (file,)


def test_problems_of_all_files_come_sorted(tmp_path: Path) -> None:
    """All at once, by file and line; and one heading for the whole."""
    (tmp_path / "b.yaml").write_text(image_set("{name: A}", "{nam: a}"))
    (tmp_path / "a.yaml").write_text(wharf("mode: X\nprune: maybe"))
    with pytest.raises(DocumentsError) as caught:
        load([tmp_path / "b.yaml", tmp_path / "a.yaml"])
    assert [f"{Path(each.place.file).name}:{each.place.line}" for each in caught.value.problems] == ["a.yaml:6", "a.yaml:7", "b.yaml:6", "b.yaml:7"]
    assert str(caught.value).startswith("4 problems in the desired state:\n  ")
