"""One look at everything, as `plan`, `apply` and `status` take it, and its exit code."""

from __future__ import annotations

from controller.cli.errors import Exit, unreachable
from controller.cli.output import plan_rows
from controller.cli.printing import print_data, table_console
from controller.cli.tables import show_age, show_plan
from controller.engine.reconcile import Look
from controller.wiring.setup import Setup
from controller.wiring.state import stored
from controller.wiring.world import open_world


async def look_at(setup: Setup, state: str | None, allow_deletes: int, *, refresh: bool) -> Look:
    """Observe and plan; nothing is changed."""
    with stored(setup, state) as store:
        async with open_world(setup, store, actor="plan", fresh=refresh) as reconciler:
            return await reconciler.look(setup.desired, allow_deletes=allow_deletes)


def show_look(look: Look, output: str) -> None:
    """Its plan on standard output, in the form that is asked for."""
    if output == "table":
        show_plan(table_console(), look.sets)
        show_age(table_console(), look.seen)
    else:
        print_data(plan_rows(look.sets), output)


def exit_code(look: Look) -> int:
    """0 when converged, 2 when not, 3 when nothing could be reached; that is said."""
    if look.seen.unreachable:
        return unreachable(look.seen.unreachable)
    return Exit.OK if look.converged else Exit.NOT_CONVERGED
