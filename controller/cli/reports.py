"""Who is told what a running controller finds and does: the log, and those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.cli.runlog import LogProgress, RunLog
from controller.domain.actions import Action, Reason, image_of
from controller.domain.reference import Target
from controller.engine.apply import Outcome, Progress
from controller.engine.notices import Notices
from controller.engine.reconcile import Look, Worked
from controller.engine.shift import Reports
from controller.gateway.keeper import Kept
from controller.web.operations import Operations


def reports_to(operations: Operations, notices: Notices) -> Reports:
    """What the shifts of one run tell, to the log and to these."""
    said = RunLog()

    def looked(look: Look) -> None:
        said.looked(look)
        operations.looked(look)
        notices.looked(look)

    def worked(target: Target, worked: Worked) -> None:
        said.worked(target, worked)
        notices.worked(target, worked)
        for outcome in worked.outcomes:
            if outcome.action.reason is Reason.FETCHED:
                operations.metrics.pulled(outcome.bytes, kept=not outcome.error)
                words = f"{outcome.action.host} fetched it past the registry; {_became(outcome.error)}"
                notices.came(image_of(outcome.action), words)

    progress = _Several((LogProgress(), operations.metrics))
    return Reports(looked, worked, progress, began=operations.began, took=operations.metrics.took)


def pulls_to(operations: Operations, notices: Notices) -> Callable[[Kept], None]:
    """What the gateway of one run tells of pulls from the internet."""

    def kept(told: Kept) -> None:
        pulled = told.pulled
        operations.metrics.pulled(told.bytes, kept=not told.error)
        notices.came(str(pulled.target), f"{pulled.client} pulled it from {pulled.source.domain}; {_became(told.error)}")

    return kept


def _became(error: str) -> str:
    return f"it is not in the registry: {error}" if error else "it is in the registry now"


class _Several:
    """A Progress that tells several."""

    def __init__(self, each: Sequence[Progress]) -> None:
        self._each = each

    def started(self, action: Action) -> None:
        for one in self._each:
            one.started(action)

    def advanced(self, action: Action, count: int) -> None:
        for one in self._each:
            one.advanced(action, count)

    def finished(self, outcome: Outcome) -> None:
        for one in self._each:
            one.finished(outcome)
