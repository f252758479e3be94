"""Plans and states as plain data: the one form behind -o json, -o yaml, saved plans and, later, the API."""

from __future__ import annotations

from typing import Any

from controller.cli.times import utc_time
from controller.domain.actions import Action, HeldBack, image_of
from controller.domain.provenance import Came
from controller.domain.status import Condition, ImageStatus, SetStatus


def plan_rows(sets: tuple[SetStatus, ...]) -> list[dict[str, Any]]:
    """`plan -o json`: one entry a set, with its actions and with what is held back."""
    return [
        {
            "imageSet": each.image_set,
            "converged": each.converged,
            "actions": [action_row(action) for action in each.plan.actions],
            "heldBack": [held_row(held) for held in each.plan.held_back],
        }
        for each in sets
    ]


def status_rows(sets: tuple[SetStatus, ...]) -> list[dict[str, Any]]:
    """`status -o json`: one entry a set, with each of its images."""
    return [{"imageSet": each.image_set, "ready": each.ready, "images": [image_row(image) for image in each.images]} for each in sets]


def action_row(action: Action) -> dict[str, Any]:
    """One planned action."""
    return _row(action.kind, image_of(action), action.host, action.reason, action.message, action.bytes)


def held_row(held: HeldBack) -> dict[str, Any]:
    """One thing that is held back: the same fields."""
    return _row(held.action, held.image, held.host, held.reason, held.message, held.bytes)


def _row(action: str, image: str, host: str, reason: str, message: str, size: int) -> dict[str, Any]:
    return {"action": str(action), "image": image, "host": host or None, "reason": str(reason), "message": message, "bytes": size}


def image_row(image: ImageStatus) -> dict[str, Any]:
    """One image of a set."""
    return {
        "name": image.name,
        "inRegistry": image.in_registry,
        "onHosts": list(image.on_hosts),
        "needsPush": image.needs_push,
        "digest": image.digest or None,
        "provenance": came_row(image.came),
        "upstreamDigest": image.upstream_digest or None,
        "conditions": [_condition_row(condition) for condition in image.conditions],
        "lastError": image.last_error or None,
        "nextRetry": image.next_retry,
        "notes": list(image.notes),
    }


def _condition_row(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": str(condition.reason),
        "message": condition.message,
        "lastTransitionTime": utc_time(condition.since),
    }


def came_row(came: Came | None) -> dict[str, Any] | None:
    """How it came to the registry."""
    return {"by": str(came.by), "message": came.words, "host": came.host or None, "at": utc_time(came.at)} if came else None
