"""Commands are found by their names, and load no more than they need (docs/adr/0029)."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from controller.cli.main import wharf

CONTEXT = click.Context(wharf)


@pytest.mark.parametrize("name", wharf.list_commands(CONTEXT))
def test_each_name_is_a_command_that_tells_of_itself(name: str) -> None:
    """Also `import`, which Python keeps for itself, and `range-config`, which is no name there."""
    command = wharf.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_there_are_commands() -> None:
    """What the README shows first."""
    assert {"apply", "import", "plan", "range-config", "run", "status"} <= set(wharf.list_commands(CONTEXT))


@pytest.mark.parametrize("name", ["options", "import_", "range_config", "__init__", "nonsense"])
def test_what_is_no_command(name: str) -> None:
    """Other modules, and the names that modules have."""
    assert wharf.get_command(CONTEXT, name) is None


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("import", {"docker", "controller.gateway", "controller.hosts"}),
        ("history", {"docker", "aiohttp", "controller.gateway"}),
        ("version", {"docker", "aiohttp", "pydantic"}),
    ],
)
def test_a_command_loads_what_it_needs(name: str, without: set[str]) -> None:
    """Each of these takes a tenth of a second and more."""
    code = (
        f"import sys; from controller.cli.main import wharf; wharf.main([{name!r}, '--help'], standalone_mode=False); print('loaded:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not without & set(done.stdout.partition("loaded:")[2].split())
