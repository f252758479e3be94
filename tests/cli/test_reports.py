"""Who is told what a controller does: what a range fetched past the gateway is news, and counted, as what came through it is."""

from __future__ import annotations

from pathlib import Path

from controller.cli.reports import reports_to
from controller.domain.actions import Copy, Plan, Reason
from controller.domain.reference import Target, parse
from controller.domain.spec import Trouble
from controller.engine.apply import Outcome
from controller.engine.notices import Key, Notices, Recipient
from controller.engine.reconcile import Worked
from controller.notify.messenger import AppriseMessenger
from controller.web.operations import Operations
from tests.support.builders import sha

PLACE = Target("docker.io/library/nginx", "1")


def copied(reason: Reason, error: str = "") -> Worked:
    """One image that came, or did not."""
    action = Copy(target=PLACE, sets=(), reason=reason, message="", host="ranges/42", source=parse("nginx:1"), digest=sha("d"), wanted=sha("d"))
    return Worked(Plan(), (Outcome(action, error, sha("d"), 7, 1.0),))


async def test_what_a_range_fetched_is_told(tmp_path: Path) -> None:
    """With who it was and what became of it; a copy that a set asked for is no news."""
    operations, notices = Operations(), Notices("default")
    await notices.address([Recipient("people", frozenset(Trouble), AppriseMessenger(tmp_path / "none"))])
    reports = reports_to(operations, notices)
    reports.worked(PLACE, copied(Reason.MISSING))
    assert notices._news["people"] == {}
    reports.worked(PLACE, copied(Reason.FETCHED))
    assert notices._news["people"] == {Key(Trouble.FROM_INTERNET, str(PLACE)): "ranges/42 fetched it past the registry; it is in the registry now"}
    reports.worked(PLACE, copied(Reason.FETCHED, "no space"))
    assert "it is not in the registry: no space" in notices._news["people"][Key(Trouble.FROM_INTERNET, str(PLACE))]
    said = operations.metrics.exposition("")[0].decode()
    assert 'wharf_pulls_from_internet_total{result="done"} 1.0' in said
    assert 'wharf_pulls_from_internet_total{result="failed"} 1.0' in said
    await notices.close()
