"""Which tags a choice means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.tags import TagChoice, choose

ALPINE = ["3", "3.18", "3.18.9", "3.19", "3.19.1", "3.20.0", "3.20.1", "3.21.0-rc1", "20240329", "edge", "latest"]
NGINX = ["1.25-alpine", "1.26", "1.26-alpine", "1.27", "1.27.3", "1.27.3-alpine", "1.27.10-alpine", "alpine", "stable"]


@pytest.mark.parametrize(
    ("tags", "choice", "expected"),
    [
        (ALPINE, TagChoice(">=3.19"), ["3.20.1", "3.20.0", "3.19.1", "3.19"]),
        (ALPINE, TagChoice(">=3.19", 3), ["3.20.1", "3.20.0", "3.19.1"]),
        (ALPINE, TagChoice(">=3.18 <3.19"), ["3.18.9", "3.18"]),
        (ALPINE, TagChoice(">=3.18,<3.19.1"), ["3.19", "3.18.9", "3.18"]),
        (ALPINE, TagChoice("=3.19"), ["3.19.1", "3.19"]),
        (ALPINE, TagChoice("3.19.1"), ["3.19.1"]),
        (ALPINE, TagChoice(">3.19"), ["3.20.1", "3.20.0"]),
        (ALPINE, TagChoice("<=3.18"), ["3.18.9", "3.18"]),
        (ALPINE, TagChoice("<3.18.9"), ["3.18"]),
        (ALPINE, TagChoice("^3.20"), ["3.20.1", "3.20.0"]),
        (ALPINE, TagChoice("~3.19.0"), ["3.19.1", "3.19"]),
        (ALPINE, TagChoice("~3"), ["3.20.1", "3.20.0", "3.19.1", "3.19", "3.18.9", "3.18"]),
        (ALPINE, TagChoice(">=3.20.1-rc0"), ["3.21.0-rc1", "3.20.1"]),
        (ALPINE, TagChoice(newest=2), ["3.20.1", "3.20.0"]),
        (ALPINE, TagChoice(exclude=("3*", "2*")), ["latest", "edge"]),
        (NGINX, TagChoice(">=1.26", glob=("*-alpine",)), ["1.27.10-alpine", "1.27.3-alpine", "1.26-alpine"]),
        (NGINX, TagChoice(">=1.26"), ["1.27.3", "1.27", "1.26"]),
        (NGINX, TagChoice(newest=1, glob=("1.27*",), exclude=("*-alpine",)), ["1.27.3"]),
        (NGINX, TagChoice(glob=("st?ble",)), ["stable"]),
        (["nightly-9", "nightly-10"], TagChoice(newest=1, glob=("nightly-*",)), ["nightly-10"]),
        (["v1.2.3", "1.2.4"], TagChoice("^1"), ["1.2.4", "v1.2.3"]),
        (["0.2.3", "0.2.9", "0.3.0"], TagChoice("^0.2.3"), ["0.2.9", "0.2.3"]),
        (["2.0.0-rc1", "1.9.0"], TagChoice("<2", glob=("*",)), ["1.9.0"]),
        (["wharf-held-0123456789ab", f"sha256-{'0' * 64}.sig", "1.0"], TagChoice(glob=("*",)), ["1.0"]),
    ],
)
def test_the_tags_that_a_choice_means(tags: list[str], choice: TagChoice, expected: list[str]) -> None:
    """All that is given holds; versions compare by their numbers; suffixes only where they are asked for; the newest first."""
    assert choose(tags, choice) == expected


@given(st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)), st.integers(1, 5))
def test_any_listing_can_be_chosen_from(tags: list[str], newest: int) -> None:
    """Tags are other people's: whatever they are, some of them are chosen, never more than `newest`, never one twice."""
    for choice in (TagChoice(">=1.2 <3", newest), TagChoice(newest=newest), TagChoice(newest=newest, glob=("*",))):
        chosen = choose(tags, choice)
        assert len(chosen) == len(set(chosen)) <= newest
        assert set(chosen) <= set(tags)
