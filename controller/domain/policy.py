"""Which planned actions may pass. What is held back stays in the plan, with the first rule that held it.

On a host the precedence is: keep, in use, present, absent, adopt; before that comes nothing, after it proof, grace, mode
and the cap on deletions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from controller.domain.actions import AFTER, BRINGS, DELETIONS, Action, Basis, Delete, Evict, HeldBack, Plan, Pull, Reason, hold
from controller.domain.desired import Desired, HostCopy
from controller.domain.observation import Observation, StoreKind
from controller.domain.spec import Mode
from controller.domain.texts import duration

Verdict = tuple[Reason, str] | tuple[Reason, str, float] | None
"""Why an action may not pass, in words, and until when, where that is known."""

_AHEAD = 3600.0
"""Seconds by which an engine's clock may be ahead of ours. A time further in the future is from before a clock was set back, and tells nothing."""

Rule = Callable[[Evict, HostCopy], Verdict]


def guard(plan: Plan, desired: Desired, seen: Observation, *, allow_deletes: int = 0) -> Plan:
    """The plan with everything that must not pass held back.

    `allow_deletes` is the operator's word: so many deletions may pass even beyond `limits.deletes`.
    """
    plan = _filtered(plan, lambda action: _rules(seen, action))
    plan = _filtered(plan, lambda action: _mode(desired, action))
    plan = _without_orphans(plan)
    return _capped(plan, desired.deletes, allow_deletes)


def _filtered(plan: Plan, verdict: Callable[[Action], Verdict]) -> Plan:
    passed: list[Action] = []
    held: list[HeldBack] = list(plan.held_back)
    for action in plan.actions:
        said = verdict(action)
        if said is None:
            passed.append(action)
        else:
            held.append(hold(action, *said))
    return plan if len(passed) == len(plan.actions) else Plan.of(passed, held)


def _rules(seen: Observation, action: Action) -> Verdict:
    if not isinstance(action, Evict):
        return None
    return eviction_verdict(action, action.copy) or _believed(action) or _grace(seen, action)


def eviction_verdict(action: Evict, copy: HostCopy) -> Verdict:
    """What the host alone says against an eviction; asked again with a fresh look right before the removal."""
    return next((said for rule in _HOST_RULES if (said := rule(action, copy)) is not None), None)


def _keep(action: Evict, copy: HostCopy) -> Verdict:
    return (Reason.KEPT, f"`keep` of {action.host} names it") if copy.kept else None


def _in_use(_: Evict, copy: HostCopy) -> Verdict:
    used_by = copy.image.used_by
    if not used_by:
        return None
    names = ", ".join(used_by[:3]) + (f" and {len(used_by) - 3} more" if len(used_by) > 3 else "")  # noqa: PLR2004 - as many as fit a line
    return Reason.IN_USE, f"container {names} uses it: remove the container, or name the image in `keep`"


def _present(action: Evict, copy: HostCopy) -> Verdict:
    return (Reason.KEPT, f"`present` of {action.host} names it") if copy.needed else None


def _known_store(action: Evict, copy: HostCopy) -> Verdict:
    if copy.store is not StoreKind.UNKNOWN:
        return None
    return Reason.UNKNOWN, f"how {action.host} stores images is not known, so nothing is removed there"


_HOST_RULES: tuple[Rule, ...] = (_keep, _in_use, _present, _known_store)


def _believed(action: Evict) -> Verdict:
    if action.basis is Basis.UNKNOWN:
        return Reason.UNKNOWN, "the registry could not be asked for it"
    if action.basis is Basis.NOWHERE:
        return Reason.UNPROVEN, f"the registry does not hold this content, so it stays on {action.host}"
    return None


def _grace(seen: Observation, action: Evict) -> Verdict:
    """From the later of first seen and the engine's LastTagTime."""
    ends = grace_starts(seen, action.copy) + action.copy.host.grace
    left = ends - seen.now
    return (Reason.WAITING, f"gracePeriod ends in {duration(math.ceil(left))}", ends) if left > 0 else None


def grace_starts(seen: Observation, copy: HostCopy) -> float:
    """When a copy's grace period began, in seconds since the epoch; a copy that was never seen before begins now."""
    first_seen = seen.first_seen.get((copy.host.name, copy.image.id, str(copy.tag)), seen.now)
    tagged = copy.image.tagged_at or 0.0
    return max(first_seen, tagged) if tagged <= seen.now + _AHEAD else first_seen


def _mode(desired: Desired, action: Action) -> Verdict:
    if desired.mode is Mode.OBSERVE:
        return Reason.MODE, "spec.mode is Observe"
    if desired.mode is Mode.PUSH and action.kind in DELETIONS:
        return Reason.MODE, "spec.mode is Push"
    return None


def _without_orphans(plan: Plan) -> Plan:
    """An eviction or a pull that waits for what another action of the same plan brings falls with it."""
    brought = {(action.kind, action.target) for action in plan.actions}
    bringing = {action.target for action in plan.actions if isinstance(action, BRINGS)}

    def verdict(action: Action) -> Verdict:
        if isinstance(action, Evict) and action.basis in AFTER and (AFTER[action.basis], action.target) not in brought:
            return Reason.UNPROVEN, f"it is not in the registry yet, so it stays on {action.host}"
        if isinstance(action, Pull) and not action.digest and action.target not in bringing:
            return Reason.NOT_FOUND, f"it is not in the registry yet, so {action.host} can't have it"
        return None

    return _filtered(plan, verdict)


def _capped(plan: Plan, limit: int, allowed: int) -> Plan:
    """More deletions than the cap, and none is done (law 8)."""
    wanted = plan.deletions
    if wanted <= max(limit, allowed):
        return plan
    message = f"{wanted} deletions in one plan, limits.deletes is {limit}: look at them, then --allow-deletes {wanted}"
    return _filtered(plan, lambda action: (Reason.TOO_MANY_DELETES, message) if isinstance(action, Evict | Delete) else None)
