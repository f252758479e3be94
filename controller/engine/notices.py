"""What is wrong now, and telling people of it: once when it begins, once when it is over, and not more often than they can bear.

What is wrong is a state, and each recipient is told the difference to what he was last told; so what came and went meanwhile is never told, and what
could not be sent is sent later, if it is still so. Only news, which have no end, wait until they are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass

from controller.domain.actions import HeldBack, Reason
from controller.domain.errors import RemoteError
from controller.domain.observation import Unknown
from controller.domain.ports.messages import Messenger
from controller.domain.ranges import is_found
from controller.domain.reference import Target
from controller.domain.spec import Trouble
from controller.engine.reconcile import Look, Worked

log = logging.getLogger(__name__)

GATHERS = 5.0
"""Seconds from when something began until it is told: what ends by itself meanwhile is nobody's business, what comes together is one message."""

PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds between two messages to one recipient; doubled each time that one could not be sent, between these two."""

NEWS = 1000
"""As many news as wait for a recipient; the oldest are forgotten, and stay in the audit trail."""

_LINES = 20
_WORDS = 400
_NEED_A_PERSON = frozenset({Reason.CONFLICT, Reason.RETIRED_ON_HOST})
_DELETIONS = "deletions"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One trouble: what kind, and of whom."""

    kind: Trouble
    subject: str


Troubles = Mapping[Key, str]
"""What is wrong, and why in words."""


@dataclass(frozen=True)
class Recipient:
    """Who is told what. Two of the same `name` are the same, and have been told the same."""

    name: str
    kinds: frozenset[Trouble]
    messenger: Messenger


class Notices:
    """Keeps what is wrong, by what a controller finds and does, and keeps recipients told of it."""

    def __init__(self, wharf: str) -> None:
        self._wharf = wharf
        self._now: dict[Key, str] = {}
        self._told: dict[str, Troubles] = {}
        self._news: dict[str, dict[Key, str]] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def address(self, recipients: Iterable[Recipient]) -> None:
        """Tell these from now on."""
        await self.close()
        recipients = list(recipients)
        self._news = {to.name: self._news.get(to.name, {}) for to in recipients if Trouble.FROM_INTERNET in to.kinds}
        self._tasks = [asyncio.create_task(self._keep_told(each)) for each in recipients]

    async def close(self) -> None:
        """Tell nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # What is wrong.

    def looked(self, look: Look) -> None:
        """A full look: the registry, the hosts, what is held back. An image that nothing asks for any more has no trouble."""
        if look.seen.registry_error:
            self._set(Trouble.UNREACHABLE, {"the registry": look.seen.registry_error}, {"the registry"})
            return  # Nothing else is known now.
        # Ranges that were found come and go, and what their people do to them is no trouble of ours.
        hosts = {f"host {name}": fact.why for name, fact in look.seen.hosts.items() if isinstance(fact, Unknown) and not is_found(name)}
        self._set(Trouble.UNREACHABLE, hosts)
        self._set(Trouble.NEEDS_PERSON, _held(look.plan.held_back))
        asked = {str(target) for target in (*look.seen.registry, *(action.target for action in look.plan.actions))}
        self._set(Trouble.FAILURE, {}, {key.subject for key in self._now if key.kind is Trouble.FAILURE} - asked)

    def worked(self, target: Target, worked: Worked) -> None:
        """One image: it failed, or went well, or nothing is known."""
        subject = str(target)
        error = next((outcome.error for outcome in worked.outcomes if outcome.error), "")
        unknown = any(row.reason is Reason.UNKNOWN for row in worked.plan.held_back)
        waits = any(outcome.wait for outcome in worked.outcomes)
        if (error or not unknown) and not waits:
            self._set(Trouble.FAILURE, {subject: error} if error else {}, {subject})
        if not unknown:
            held = _held(row for row in worked.plan.held_back if row.reason is not Reason.TOO_MANY_DELETES)
            self._set(Trouble.NEEDS_PERSON, held, {subject})

    def came(self, image: str, words: str) -> None:
        """A client pulled this from the internet."""
        key = Key(Trouble.FROM_INTERNET, image)
        for news in self._news.values():
            news.pop(key, None)  # The last word on an image is what counts, in its place.
            news[key] = words
            if len(news) > NEWS:
                del news[next(iter(news))]
        self._tell_all()

    def _set(self, kind: Trouble, found: Mapping[str, str], among: Iterable[str] | None = None) -> None:
        """Of this kind exactly these are wrong now, `among` these subjects or all."""
        subjects = {key.subject for key in self._now if key.kind is kind} if among is None else set(among)
        gone = {Key(kind, subject) for subject in subjects - found.keys()} & self._now.keys()
        new = {Key(kind, subject): words for subject, words in found.items()}
        if gone or new.keys() - self._now.keys():
            self._tell_all()
        self._now.update(new)
        for key in gone:
            del self._now[key]

    def _tell_all(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # Telling it.

    async def _keep_told(self, to: Recipient) -> None:
        pause = PAUSE
        while True:
            while self._is_up_to_date(to):
                await self._changed.wait()
            await asyncio.sleep(GATHERS)
            if self._is_up_to_date(to):
                continue
            try:
                await _to_its_end(self._tell(to))
            except RemoteError as error:
                log.warning("%s: it is tried again in %.0f s", error, pause, extra={"error": str(error)})
                pause, waits = min(LONGEST_PAUSE, pause * 2), pause
            else:
                pause = waits = PAUSE
            await asyncio.sleep(waits)

    async def _tell(self, to: Recipient) -> None:
        now, told, news = self._wrong(to), self._told_to(to), dict(self._news.get(to.name, {}))
        await to.messenger.send(*_message(self._wharf, told, now, news), trouble=bool(now.keys() - told.keys()))
        self._told[to.name] = now
        waiting = self._news.get(to.name, {})
        for key, words in news.items():
            if waiting.get(key) == words:
                del waiting[key]

    def _is_up_to_date(self, to: Recipient) -> bool:
        return self._wrong(to).keys() == self._told_to(to).keys() and not self._news.get(to.name)

    def _wrong(self, to: Recipient) -> Troubles:
        return {key: words for key, words in self._now.items() if key.kind in to.kinds}

    def _told_to(self, to: Recipient) -> Troubles:
        return {key: words for key, words in self._told.get(to.name, {}).items() if key.kind in to.kinds}


async def _to_its_end(telling: Coroutine[None, None, None]) -> None:
    """A message can't be called back: who cancels this waits for its end, so that what was told is known."""
    task = asyncio.ensure_future(telling)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _held(rows: Iterable[HeldBack]) -> dict[str, str]:
    """What only a person can resolve. Too many deletions are one trouble, however many images it holds back."""
    found: dict[str, str] = {}
    for row in rows:
        if row.reason is Reason.TOO_MANY_DELETES:
            found[_DELETIONS] = row.message
        elif row.reason in _NEED_A_PERSON:
            found.setdefault(str(row.target or row.image), f"{row.reason}: {row.message}")
    return found


def _message(wharf: str, told: Troubles, now: Troubles, news: Troubles) -> tuple[str, str]:
    """The title and the body of what is wrong, what is over, and what came."""
    new, over = sorted(now.keys() - told.keys()), sorted(told.keys() - now.keys())
    parts = ((new, "wrong"), (over, "well again"), (news, "from the internet"))
    counts = [f"{len(keys)} {words}" for keys, words in parts if keys]
    lines = [f"{key.kind}: {key.subject}: {' '.join(now[key].split())[:_WORDS]}" for key in new]
    lines += [f"over: {key.kind}: {key.subject}" for key in over]
    lines += [f"{key.kind}: {key.subject}: {' '.join(words.split())[:_WORDS]}" for key, words in news.items()]
    more = [f"and {len(lines) - _LINES} more: see `wharf status`"] if len(lines) > _LINES else []
    return f"Wharf {wharf}: {', '.join(counts)}", "\n".join([*lines[:_LINES], *more])
