"""A .dockerignore by Docker's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.sources.dockerignore import BadPatternError, parse_ignore

ONE_PATTERN = [
    ("**", "file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir", False),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "file", True),
    ("**file", "dir/other.file", True),
    ("**/file", "dir/dir/file", True),
    ("**/file", "dir/myfile", False),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*", "dir/dir/my.file.txt", False),
    ("**/**/*.txt", "file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt**", "a/file.txt", True),
    ("*/temp*", "a/temporary.txt", True),
    ("*/temp*", "a/b/temporary.txt", False),
    ("*/*/temp*", "a/b/temporary.txt", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("temp?", "temp/a", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    ("[\\-x]", "-", True),
    ("[a-ö]*", "ö", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcZdef", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("a?b", "a☺b", True),
    ("/a", "a", True),
    ("//a/", "a/b", True),
    ("a/", "a", True),
    ("./a/../b", "b", True),
    ("../a", "a", False),
    ("/../a", "a", True),
    ("  a\t", "a", True),
    (".", "a", False),
    ("/", "a", False),
    ("A", "a", False),
    ("docs", "docs/deep/file", True),
    ("*.md", "docs/README.md", False),
]

SEVERAL = [
    (["*.md", "!README.md"], "README.md", False),
    (["!README.md", "*.md"], "README.md", True),
    (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
    (["*.md", "README-secret.md", "!README*.md"], "README-secret.md", False),
    (["docs", "!docs/README.md"], "docs/README.md", False),
    (["docs", "!docs/README.md"], "docs/other.md", True),
    (["**", "!util/docker/web"], "util/docker/web/foo", False),
    (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
    (["*", "!**/keep.txt"], "a/b/keep.txt", False),
    (["*", "! keep"], "keep", False),
    (["# a", "#b"], "#b", False),
    ([" #b"], "#b", True),
    (["\ufeffa"], "a", True),
    (["a\r", "", "b\r"], "b", True),
    ([], "a", False),
]


@pytest.mark.parametrize(("pattern", "path", "ignored"), ONE_PATTERN)
def test_one_pattern(pattern: str, path: str, *, ignored: bool) -> None:
    """Each form of a pattern means what it means to Docker."""
    assert parse_ignore(pattern).ignores(path) is ignored


@pytest.mark.parametrize(("lines", "path", "ignored"), SEVERAL)
def test_several_patterns(lines: list[str], path: str, *, ignored: bool) -> None:
    """Comments and blanks count for nothing, `!` brings back, the last match wins."""
    assert parse_ignore("\n".join(lines)).ignores(path) is ignored


@pytest.mark.parametrize("pattern", ["[", "a[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[^", "[^bc", "[z-a]", "!", " ! ", "[\\"])
def test_what_docker_refuses_is_refused(pattern: str) -> None:
    """A pattern that is none is an error with its line, and not a folder that is sent whole."""
    with pytest.raises(BadPatternError, match="line 2"):
        parse_ignore(f"fine\n{pattern}")


@given(st.text(alphabet="ab/*?[]^-!\\#. \n", max_size=30), st.lists(st.sampled_from(["a", "b", "ab", ".a", "a-b"]), min_size=1, max_size=4))
def test_any_text_is_patterns_or_refused(text: str, parts: list[str]) -> None:
    """No text breaks it; and what an exception brings back is found below each folder that is left out."""
    try:
        ignore = parse_ignore(text)
    except BadPatternError:
        return
    if not ignore.ignores("/".join(parts)):
        for i in range(1, len(parts)):
            folder = "/".join(parts[:i])
            assert not ignore.ignores(folder) or ignore.excepts_below(folder)


def test_a_pattern_that_is_meant_to_take_forever_does_not() -> None:
    """Stars upon stars over a long path: hours for what tries every way; the test's time-out is the judge."""
    ignore = parse_ignore("\n".join(["**/" * 40 + "b*", "*a" * 40 + "b", "**/*a" * 40 + "c"]))
    assert not ignore.step("/".join(["a" * 200] * 15), ignore.nothing)[0]
