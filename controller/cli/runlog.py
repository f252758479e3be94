"""What `wharf run` says while it runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from controller.cli.progress import ending, held_words
from controller.domain.actions import Action, HeldBack, image_of
from controller.domain.reference import Target
from controller.engine.apply import Outcome
from controller.engine.reconcile import Look, Worked

log = logging.getLogger(__name__)


class RunLog:
    """What a controller says: a line a look and a line an image that was worked on; what is held back, when that is news."""

    def __init__(self) -> None:
        self._held: dict[Target | None, tuple[str, ...]] = {}

    def looked(self, look: Look) -> None:
        """A full look."""
        if look.seen.unreachable:
            log.error("unreachable: %s", look.seen.unreachable, extra={"error": look.seen.unreachable})
            return
        held = look.plan.held_back
        log.info("%s: %d to do, %d held back", "converged" if look.converged else "not converged", len(look.plan.actions), len(held))
        for target in {row.target: None for row in held} | dict.fromkeys(self._held):
            self._tell(target, [row for row in held if row.target == target])

    def worked(self, target: Target, worked: Worked) -> None:
        """One image."""
        if worked.outcomes:
            failed = sum(bool(outcome.error) for outcome in worked.outcomes)
            state = "not converged" if failed or worked.plan.held_back else "converged"
            done = len(worked.outcomes) - failed
            log.info("%s %s: %d done, %d failed", target, state, done, failed, extra={"image": str(target)})
        self._tell(target, worked.plan.held_back)

    def _tell(self, target: Target | None, held: Sequence[HeldBack]) -> None:
        reasons = tuple(f"{row.action} {row.host} {row.reason}" for row in held)
        if self._held.get(target, ()) == reasons:
            return
        for row in held:
            extra = {"image": row.image, "host": row.host, "action": row.action, "reason": row.reason, "bytes": row.bytes}
            log.info("%s", held_words(row), extra=extra)
        if reasons:
            self._held[target] = reasons
        else:
            self._held.pop(target, None)


class LogProgress:
    """One record for each action that ended."""

    def started(self, action: Action) -> None:
        """Nothing: the end says it all."""

    def advanced(self, action: Action, count: int) -> None:
        """Nothing: bytes are for bars."""

    def finished(self, outcome: Outcome) -> None:
        """How it ended."""
        action = outcome.action
        extra = {
            "image": image_of(action),
            "host": action.host,
            "action": action.kind,
            "reason": action.reason,
            "error": outcome.error,
            "seconds": round(outcome.seconds, 3),
            "bytes": outcome.bytes,
        }
        log.log(logging.ERROR if outcome.error else logging.INFO, "%s", ending(outcome).plain, extra=extra)
