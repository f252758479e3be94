"""Saved plans: `wharf plan --out FILE`, and the check of `wharf apply --plan FILE` that the world still is as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.cli.output import action_row
from controller.domain.actions import Plan, identity
from controller.domain.errors import MovedError, UsageError

_FORMAT = "wharfinger.dev/plan/v1"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The files that it was made of, and what each action would touch."""

    wharf: str
    files: tuple[Path, ...]
    actions: frozenset[tuple[str, ...]]


def save(path: Path, wharf: str, files: Sequence[Path], plan: Plan) -> None:
    """Write a plan: readable, and exact."""
    said = {
        "format": _FORMAT,
        "wharf": wharf,
        "files": [str(file.absolute()) for file in files],
        "actions": [{**action_row(action), "identity": identity(action)} for action in plan.actions],
    }
    path.write_text(json.dumps(said, indent=2) + "\n")


def read_saved(path: Path) -> SavedPlan:
    """Read a plan back; UsageError when the file is none."""
    try:
        said = json.loads(path.read_text())
        if said["format"] != _FORMAT:
            raise UsageError(f"{path}: format {said['format']!r}, expected {_FORMAT!r}: make the plan anew with this version")
        return SavedPlan(said["wharf"], tuple(map(Path, said["files"])), frozenset(tuple(action["identity"]) for action in said["actions"]))
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no plan that `wharf plan --out` wrote") from None


def exactly(saved: SavedPlan, plan: Plan) -> Plan:
    """The saved actions out of today's plan; MovedError when one of them would not be planned today."""
    today = {identity(action): action for action in plan.actions}
    gone = sorted(saved.actions - today.keys())
    if gone:
        words = "; ".join(" ".join(each[:2]) for each in gone[:3])
        raise MovedError(
            f"the world has moved since this plan was made, so nothing was done: {words} is not what would be done now. Make a new plan."
        )
    return Plan(tuple(action for key, action in today.items() if key in saved.actions), plan.held_back)
