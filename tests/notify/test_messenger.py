"""Messages by Apprise, to a real web hook; no secret of a URL is ever told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.domain.errors import RefusedError, UnreachableError
from controller.notify.messenger import AppriseMessenger
from tests.support.receiver import Receiver, receiving
from tests.support.servers import free_port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web hook of one test."""
    with receiving() as found:
        yield found


def messenger(folder: Path, *lines: str) -> AppriseMessenger:
    """One with a file of these lines."""
    (folder / "urls").write_text("\n".join(lines))
    return AppriseMessenger(folder / "urls")


async def test_a_message_arrives(tmp_path: Path, receiver: Receiver) -> None:
    """With its title, its words, and whether it is bad news; comments in the file are none of Apprise's business."""
    sender = messenger(tmp_path, "# the team's chat", "", receiver.url)
    await sender.send("Wharf default: 1 wrong", "two\nlines", trouble=True)
    await sender.send("over", "well again", trouble=False)
    assert [(got["title"], got["message"], got["type"]) for got in receiver.got] == [
        ("Wharf default: 1 wrong", "two\nlines", "failure"),
        ("over", "well again", "success"),
    ]


async def test_a_hook_that_does_not_take_it(tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """It is an error that names the file and the kind of service, and neither its URL nor what is secret in it."""
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    down = f"json://user:s3cret-word@127.0.0.1:{free_port()}/s3cret-path"
    for url in (receiver.url, down):
        with pytest.raises(UnreachableError, match=r"urls: not taken by JSON") as caught:
            await messenger(tmp_path, url).send("t", "b", trouble=True)
        assert "s3cret" not in str(caught.value)
    receiver.status = 200
    await messenger(tmp_path, receiver.url, down).send("t", "b", trouble=True)
    assert len(receiver.got) == 1
    assert "not taken by JSON; others took it" in caplog.text
    assert "s3cret" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith(("controller", "apprise")))


@pytest.mark.parametrize(("lines", "said"), [(["bogus://user:s3cret-word@x"], "line 1 is no URL"), (["# nothing"], "there is no URL in it")])
async def test_a_file_that_is_of_no_use(tmp_path: Path, lines: list[str], said: str, caplog: pytest.LogCaptureFixture) -> None:
    """It says which line, and not what is in it."""
    with pytest.raises(RefusedError, match=said) as caught:
        await messenger(tmp_path, *lines).send("t", "b", trouble=True)
    assert "s3cret" not in str(caught.value) + caplog.text


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """So does one that can't be read."""
    with pytest.raises(RefusedError, match=r"none: No such file"):
        await AppriseMessenger(tmp_path / "none").send("t", "b", trouble=True)
