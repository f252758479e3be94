"""What people are told of a running controller, by a real web hook: each trouble once, its end once, and never too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.domain.actions import HeldBack, Kind, Plan, Reason
from controller.domain.reference import Target, parse_local
from controller.domain.spec import Trouble
from controller.engine import notices as module
from controller.engine.apply import Outcome
from controller.engine.notices import Notices, Recipient
from controller.engine.reconcile import Look, Worked
from controller.notify.messenger import AppriseMessenger
from tests.support.builders import desired, engine, seen
from tests.support.receiver import Receiver, receiving

KALI, WEB = parse_local("cyroid/kali:1"), parse_local("cyroid/web:1")
UP = {"one": engine(), "two": engine(engine_id="another")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test can wait for."""
    monkeypatch.setattr(module, "GATHERS", 0.05)
    monkeypatch.setattr(module, "PAUSE", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web hook of one test."""
    with receiving() as found:
        yield found


class Told:
    """Notices that are sent to the receiver."""

    def __init__(self, receiver: Receiver, file: Path) -> None:
        self.receiver = receiver
        self.file = file
        self.notices = Notices("default")
        file.write_text(receiver.url)

    async def address(self, *kinds: Trouble) -> None:
        await self.notices.address([Recipient("chat", frozenset(kinds or Trouble), AppriseMessenger(self.file))])

    async def until(self, count: int) -> list[str]:
        """The message with this number, once there are so many and no more."""
        await until(lambda: len(self.receiver.got) >= count)
        assert len(self.receiver.got) == count, self.receiver.got
        return str(self.receiver.got[-1]["message"]).splitlines()


@pytest.fixture
async def told(receiver: Receiver, tmp_path: Path) -> AsyncIterator[Told]:
    """All troubles are told."""
    found = Told(receiver, tmp_path / "urls")
    await found.address()
    yield found
    await found.notices.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - it becomes true in another thread
            await asyncio.sleep(0.01)


async def while_nothing_is_told(told: Told, count: int) -> None:
    """Give it the time of many messages: what would be told, would be by then. More time can only make this stricter."""
    await asyncio.sleep(0.5)
    assert len(told.receiver.got) == count


def a_look(*held: HeldBack, targets: tuple[Target, ...] = (KALI, WEB), hosts: Any = None, registry_error: str = "") -> Look:
    """A look at these images."""
    found = seen({str(target): None for target in targets}, UP if hosts is None else hosts, registry_error=registry_error)
    return Look(desired(), found, Plan((), held), ())


def row(reason: Reason, target: Target = KALI, message: str = "see there") -> HeldBack:
    """Something that is held back."""
    return HeldBack(str(target), Kind.PUSH, "one", reason, message, (), 0, target)


def a_work(error: str = "", *held: HeldBack) -> Worked:
    """What was done for one image."""
    return Worked(Plan((), held), (Outcome(None, error, "", 0, 0.0),))  # type: ignore[arg-type] # which action it was plays no part


async def test_a_failure_is_told_once_however_often_it_happens(told: Told) -> None:
    """Its first words; fifty more tries with other words are the same trouble; its end is told once; then a new one is news."""
    told.notices.worked(KALI, a_work("cyroid/kali:1: PUT: 500"))
    assert await told.until(1) == ["Failure: cyroid/kali:1: cyroid/kali:1: PUT: 500"]
    assert told.receiver.got[0]["title"] == "Wharf default: 1 wrong"
    for number in range(50):
        told.notices.worked(KALI, a_work(f"try {number}"))
        told.notices.looked(a_look())
        await asyncio.sleep(0)
    await while_nothing_is_told(told, 1)
    told.notices.worked(KALI, a_work())
    assert await told.until(2) == ["over: Failure: cyroid/kali:1"]
    assert told.receiver.got[1]["type"] == "success"
    told.notices.worked(KALI, a_work())
    await while_nothing_is_told(told, 2)
    told.notices.worked(KALI, a_work("again"))
    assert await told.until(3) == ["Failure: cyroid/kali:1: again"]


async def test_what_comes_together_is_one_message(told: Told) -> None:
    """A thousand images fail at once: one message, of bounded size."""
    for number in range(1000):
        told.notices.worked(Target("lab/many", str(number)), a_work("x" * 10_000))
    lines = await told.until(1)
    assert lines[-1] == "and 980 more: see `wharf status`"
    assert len(lines) == 21
    assert max(map(len, lines)) < 500
    assert told.receiver.got[0]["title"] == "Wharf default: 1000 wrong"


async def test_what_came_and_went_is_never_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's failure is nobody's business."""
    monkeypatch.setattr(module, "GATHERS", 0.3)
    told.notices.worked(KALI, a_work("for a moment"))
    await asyncio.sleep(0)
    told.notices.worked(KALI, a_work())
    await while_nothing_is_told(told, 0)


async def test_a_silent_registry_and_a_silent_host(told: Told) -> None:
    """Each is told when it begins and when it is over; while the registry is silent nothing is said of what it can't be asked about."""
    told.notices.looked(a_look(hosts={"one": engine(), "two": None}))
    assert await told.until(1) == ["Unreachable: host two: no answer"]
    told.notices.looked(a_look(registry_error="GET /v2/: refused"))
    assert await told.until(2) == ["Unreachable: the registry: GET /v2/: refused"]
    told.notices.looked(a_look())
    assert await told.until(3) == ["over: Unreachable: host two", "over: Unreachable: the registry"]


async def test_what_needs_a_person(told: Told) -> None:
    """A conflict of an image; deletions above the cap are one trouble, however many images they hold back; what waits by itself needs nobody."""
    cap = [row(Reason.TOO_MANY_DELETES, target, "12 deletions") for target in (KALI, WEB)]
    told.notices.looked(a_look(row(Reason.CONFLICT), *cap, row(Reason.WAITING, WEB), row(Reason.IN_USE, WEB), row(Reason.KEPT, WEB)))
    assert await told.until(1) == ["NeedsPerson: cyroid/kali:1: Conflict: see there", "NeedsPerson: deletions: 12 deletions"]
    told.notices.worked(KALI, a_work())
    assert await told.until(2) == ["over: NeedsPerson: cyroid/kali:1"]
    told.notices.looked(a_look())
    assert await told.until(3) == ["over: NeedsPerson: deletions"]


async def test_unknown_ends_no_trouble(told: Told) -> None:
    """Law 2: a try that could not look at the image says nothing of it; an image that nobody asks for any more has no trouble."""
    told.notices.worked(KALI, a_work("wrong"))
    await told.until(1)
    told.notices.worked(KALI, Worked(Plan((), (row(Reason.UNKNOWN),)), ()))
    await while_nothing_is_told(told, 1)
    told.notices.looked(a_look(targets=(WEB,)))
    assert await told.until(2) == ["over: Failure: cyroid/kali:1"]


async def test_waiting_for_a_collection_is_no_trouble(told: Told) -> None:
    """An image that was not begun, as nothing is written now, is nobody's business; nor does that end a trouble that it had."""
    waits = Worked(Plan((), ()), (Outcome(None, "its garbage is being collected", "", 0, 0.0, 5.0),))  # type: ignore[arg-type] # as above
    told.notices.worked(WEB, waits)
    told.notices.worked(KALI, a_work("no space left"))
    told.notices.worked(KALI, waits)
    assert len(await told.until(1)) == 1
    assert "no space left" in (await told.until(1))[0]


async def test_a_recipient_hears_what_it_asked_for(told: Told) -> None:
    """Of other kinds neither the beginning nor the end; and what it was told already is not told again when the file changes."""
    await told.address(Trouble.FAILURE)
    told.notices.looked(a_look(row(Reason.CONFLICT)))
    told.notices.worked(WEB, a_work("wrong"))
    assert await told.until(1) == ["Failure: cyroid/web:1: wrong"]
    await told.address(Trouble.FAILURE, Trouble.NEEDS_PERSON)
    assert await told.until(2) == ["NeedsPerson: cyroid/kali:1: Conflict: see there"]


async def test_what_could_not_be_sent_is_sent_later(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that is down costs a warning; what is still wrong when it is back is told then, once."""
    told.receiver.status = 503
    told.notices.worked(KALI, a_work("wrong"))
    await until(lambda: told.receiver.asked > 2)
    told.notices.worked(WEB, a_work("for a while"))
    told.notices.worked(WEB, a_work())
    told.receiver.status = 200
    assert await told.until(1) == ["Failure: cyroid/kali:1: wrong"]
    await while_nothing_is_told(told, 1)
    assert "not taken by JSON" in caplog.text
    assert "s3cret" not in caplog.text


async def test_messages_keep_their_distance(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one message to a recipient the next waits, and says all that came meanwhile."""
    monkeypatch.setattr(module, "PAUSE", 1.0)
    await told.address()
    told.notices.worked(KALI, a_work("one"))
    await told.until(1)
    for number in range(10):
        told.notices.worked(Target("lab/many", str(number)), a_work("wrong"))
        await asyncio.sleep(0.06)
    await until(lambda: len(told.receiver.got) == 2)
    assert len(str(told.receiver.got[1]["message"]).splitlines()) == 10


async def test_what_came_from_the_internet_is_news(told: Told) -> None:
    """Told once and without an end, together with what is wrong; the last word of an image that comes twice meanwhile; only to who asks for it."""
    words = "10.0.0.5 pulled it from docker.io; it is in the registry now"
    for each in ("10.0.0.5 pulled it from docker.io; it is not in the registry: 500", words):
        told.notices.came("docker.io/library/nginx:1", each)
    told.notices.worked(KALI, a_work("PUT: 500"))
    assert await told.until(1) == ["Failure: cyroid/kali:1: PUT: 500", f"FromInternet: docker.io/library/nginx:1: {words}"]
    assert told.receiver.got[0]["title"] == "Wharf default: 1 wrong, 1 from the internet"
    told.notices.looked(a_look())
    await while_nothing_is_told(told, 1)
    told.notices.came("docker.io/library/nginx:1", words)
    await told.until(2)
    assert told.receiver.got[1]["title"] == "Wharf default: 1 from the internet"
    await told.address(Trouble.FAILURE)
    told.notices.came("docker.io/library/nginx:1", words)
    await while_nothing_is_told(told, 2)


async def test_news_wait_until_they_are_taken(told: Told) -> None:
    """Who does not take a message gets it later, with what came meanwhile; no more wait than are bounded."""
    told.receiver.status = 500
    for number in range(module.NEWS + 10):
        told.notices.came(f"docker.io/lab/many:{number}", "10.0.0.5 pulled it")
    await until(lambda: told.receiver.asked > 0)
    told.receiver.status = 200
    lines = await told.until(1)
    assert told.receiver.got[0]["title"] == f"Wharf default: {module.NEWS} from the internet"
    assert lines[0] == "FromInternet: docker.io/lab/many:10: 10.0.0.5 pulled it"
