"""The command line of Wharfinger. Each command is a module in `commands`, loaded when it is called; here is what they have in common."""

from __future__ import annotations

import gc
import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from rich.text import Text

from controller import __version__
from controller.cli import commands, logs
from controller.cli.errors import Exit, complaints
from controller.domain.errors import RemoteError, WharfError


class _Commands(click.Group):
    """Finds a command by its name: `range-config` in commands/range_config.py. What the others need costs it no time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Their names."""
        return sorted(module.name.strip("_").replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them; None for what is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        name += "_" * iskeyword(name)
        found = getattr(import_module(f"{commands.__name__}.{name}"), name)
        return found if isinstance(found, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("-v", "--verbose", is_flag=True, help="Log more, on standard error.")
@click.option(
    "--log",
    type=click.Choice([each.value for each in logs.Form]),
    default=logs.Form.HUMAN.value,
    show_default=True,
    envvar="WHARF_LOG",
    help="How logs are written on standard error: for people, or one JSON object a line.",
)
def wharf(*, verbose: bool, log: str) -> None:
    """Keep every image in one registry and the hosts clear, as a YAML file says.

    FILES are desired-state files or folders; default: desired-state.yaml, then config/desired-state.yaml.
    """
    logs.set_up(logs.Form(log), verbose=verbose)


def main() -> None:
    """The entry point: every failure becomes words and an exit code."""
    # Little of what is made here forms cycles: looking for them as often as Python does takes a tenth of the time.
    gc.set_threshold(50_000, 20, 50)
    sys.exit(_guarded(lambda: wharf.main(standalone_mode=False, prog_name="wharf")))


def _guarded(do: Callable[[], Any]) -> int:
    try:
        return int(do() or 0)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except RemoteError as error:
        _say(str(error))
        return Exit.UNREACHABLE
    except WharfError as error:
        _say(str(error))
        return Exit.USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted", mark="")
        return 128 + signal.SIGINT
    except OSError as error:
        _say(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        return Exit.USAGE
    except Exception as error:
        logging.getLogger(__name__).debug("a defect", exc_info=True)
        _say(f"a defect in wharf {__version__}: {type(error).__name__}: {error} (run again with -v and report it)")
        return Exit.USAGE


def _say(words: str, mark: str = "error: ") -> None:
    """The last word on standard error: a record where that is for a machine."""
    if logs.is_json():
        logging.getLogger(__name__).error(words, extra={"error": words})
    else:
        complaints().print(Text.assemble((mark, "red"), words))


if __name__ == "__main__":
    main()
