"""YAML as the format reads it: version 1.2's types, the place of everything, and no input that does harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.documents.yaml_nodes import MAX_SIZE, read_documents
from tests.documents.texts import SAMPLE, image_set, loaded, said, wharf


def value(text: str) -> dict[str, object]:
    """What the first document says; it has no problems."""
    documents, problems = read_documents(text, "d.yaml")
    assert problems == []
    said = documents[0].value
    assert isinstance(said, dict)
    return said


def problems(text: str) -> list[str]:
    """What is wrong with the YAML."""
    return [str(problem) for problem in read_documents(text, "d.yaml")[1]]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("Yes", "Yes"),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"), ("'true'", "true"),
        ("22:30", "22:30"), ("22h2", "22h2"), ("2024-01-31", "2024-01-31"), ("1_000", "1_000"), ("0b1", "0b1"),
        ("12", 12), ("-3", -3), ("+4", 4), ("010", 10), ("0o17", 15), ("0xff", 255), ("1.50", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1.2.3", "1.2.3"),
        ("1e999", "1e999"), ("9" * 64, "9" * 64), ("~", None), ("null", None), ("", None), ("'~'", "~"), ('""', ""), ("|\n  12\n", "12\n"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(written: str, meant: object) -> None:
    """YAML 1.2.2, 10.3.2: YAML 1.1 would make `on` True, 22:30 a number and a date a date."""
    found = value(f"key: {written}")["key"]
    assert (found, type(found)) == (meant, type(meant))


def test_on_is_a_key() -> None:
    """`discover.on` and `build.on` are fields of the format."""
    assert value("{on: local, yes: 1}") == {"on": "local", "yes": 1}


def test_several_documents_and_empty_ones() -> None:
    """Documents are separated by ---; one that holds nothing is none."""
    documents, found = read_documents("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n", "d.yaml")
    assert ([document.value for document in documents], found) == ([{"a": 1}, {"b": 2}], [])
    assert str(documents[1].place("b")) == "d.yaml:7:4"


def test_anchors_and_aliases() -> None:
    """An alias means its anchor's value; the place of what it brings is the anchor's."""
    documents, found = read_documents("a: &x\n  b: [1, 2]\nc: *x\n", "d.yaml")
    assert (documents[0].value, found) == ({"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}, [])
    assert str(documents[0].place("c", "b", 1)) == "d.yaml:2:10"


def test_places_count_characters_from_one() -> None:
    """Editors count characters, not bytes."""
    documents, _ = read_documents("\ufeffä: {ö: [ü, ß]}\n".removeprefix("\ufeff"), "d.yaml")
    place = documents[0].place("ä", "ö", 1)
    assert (place.line, place.column, place.field) == (1, 12, "ä.ö[1]")


def test_place_of_what_is_not_there_is_what_is_around_it() -> None:
    """Checks across documents name a field that may have been left out."""
    documents, _ = read_documents("spec:\n  hosts:\n    - name: a\n", "d.yaml")
    assert str(documents[0].place("spec", "hosts", 0, "engine")) == "d.yaml:3:7"
    assert documents[0].place("spec", "hosts", 9).field == "spec.hosts"
    assert str(documents[0].place()) == "d.yaml:1:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "d.yaml:4:3: b.c: found the key 'c' a second time; expected it once; the first is in line 3"),
        ("a: 1\n12: x\n", "d.yaml:2:1: found the key '12' that is no text; expected a text; put it in quotes if it is one"),
        ("true: x\n", "d.yaml:1:1: found the key 'true' that is no text; expected a text; put it in quotes if it is one"),
        ("? [a]\n: x\n", "d.yaml:1:3: found a key that is no text; expected a text; put it in quotes if it is one"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "d.yaml:3:3: c: found a merge key; expected the fields themselves, or an alias for a whole value"),
        ("a: *b\n", "d.yaml:1:4: a: found the alias *b; expected an anchor &b above it in the same document"),
        ("a: &x 1\n---\nb: *x\n", "d.yaml:3:4: b: found the alias *x; expected an anchor &x above it in the same document"),
        ("a: &x [1, *x]\n", "d.yaml:1:11: a[1]: found the alias *x inside its own anchor; expected an alias to a value that ends before it"),
        (
            "a:\n  - !!python/object/apply:os.system [ls]\n",
            "d.yaml:2:5: a[0]: found the tag 'tag:yaml.org,2002:python/object/apply:os.system'; expected a value without a tag; quotes make a text",
        ),
        ("a: !!str 1\n", "d.yaml:1:4: a: found the tag 'tag:yaml.org,2002:str'; expected a value without a tag; quotes make a text"),
        ("a: b\nc: \x00d\n", "d.yaml:2:4: found the control character U+0000; expected a text file"),
    ],
)  # fmt: skip
def test_what_is_no_plain_data_is_told_at_its_place(text: str, expected: str) -> None:
    """PyYAML alone would take the last of two keys, run tags' constructors where it may, and loop on a value inside itself."""
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "place"), [("a: [1\nb: 2\n", "2:2"), ("a:\n\t- b\n", "2:1"), ("a: b: c\n", "1:5"), ("a: 'b\nc", "2:2"), ("a: @b", "1:4")]
)
def test_broken_yaml_is_told_at_its_place(text: str, place: str) -> None:
    """The words are the parser's; the place is never beyond the file."""
    (problem,) = problems(text)
    assert problem.startswith(f"d.yaml:{place}: found no YAML here: ")
    assert problem.endswith("; expected YAML 1.2, indented with spaces")


def test_everything_before_broken_yaml_is_told_too() -> None:
    """One slip does not hide another."""
    assert [line.partition(" found ")[0] for line in problems("a: 1\na: 2\n---\nb: !x 1\nc: [\n")] == [
        "d.yaml:2:1: a:",
        "d.yaml:4:4: b:",
        "d.yaml:6:1:",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "&a " + "[" * 64 + "x" + "]" * 64 + "\n--- " + "[" * 65])
def test_nesting_has_an_end(text: str) -> None:
    """A recursive reader would die of it."""
    assert [line.partition(" found ")[2] for line in problems(text)] == ["more than 64 levels of mappings and lists; expected at most 64"]


def test_alias_bomb_is_refused_without_expanding_it() -> None:
    """Thirty lines that mean 2 ** 30 values (a billion laughs)."""
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30))]
    found = problems("\n".join(lines))
    assert len(found) == 1
    assert f"found more than {MAX_SIZE} values, counted with aliases expanded" in found[0]
    assert found[0].startswith("d.yaml:17:")


def test_aliases_to_a_long_text_count_its_length() -> None:
    """A few aliases to a megabyte would be a bomb of another kind."""
    assert problems(f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 40)}]\n")[0].startswith("d.yaml:2:")


def test_problems_of_yaml_are_not_told_twice(tmp_path: Path) -> None:
    """A value that YAML could not say is not called missing as well."""
    assert said(tmp_path, wharf("mode: !x Full\ninterval: *y")) == [
        "d.yaml:6:9: spec.mode: found the tag '!x'; expected a value without a tag; quotes make a text",
        "d.yaml:7:13: spec.interval: found the alias *y; expected an anchor &y above it in the same document",
    ]


def test_aliases_serve_documents(tmp_path: Path) -> None:
    """A list of patterns may be written once."""
    text = wharf("hosts:\n  - {name: a, engine: env, adopt: &p [cyroid/**], absent: *p}")
    assert loaded(tmp_path, text).wharfs[0].value.spec.hosts[0].absent == ("cyroid/**",)


def test_json_is_yaml(tmp_path: Path) -> None:
    """A program may write the file."""
    assert said(tmp_path, '{"apiVersion": "wharfinger.dev/v1alpha1", "kind": "ImageSet", "metadata": {"name": "a"}, "spec": {"images": []}}') == []


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    """Editors of other systems write them."""
    assert said(tmp_path, b"\xef\xbb\xbf" + SAMPLE.replace("\n", "\r\n").encode()) == []
    assert said(tmp_path, image_set("3").replace("\n", "\r\n"))[0].startswith("d.yaml:6:7: ")
