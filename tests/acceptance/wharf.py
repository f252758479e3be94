"""The command as an operator runs it: a process, its exit code, its two outputs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHARF = [sys.executable, "-m", "controller.cli.main"]
TIMEOUT = 120


@dataclass(frozen=True)
class Done:
    """One run that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)


def wharf(*arguments: str | Path, state: Path, cwd: Path | None = None) -> Done:
    """Run it to its end. No traceback may reach a user, whatever happens."""
    environment = {**os.environ, "WHARF_STATE": str(state), "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200"}
    done = subprocess.run([*WHARF, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment, cwd=cwd)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "a defect in wharf" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


class Running:
    """`wharf run` in the background; what it says is waited for by its words."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def wait_for(self, told: Callable[[str], bool] | str, *, after: int = 0) -> int:
        """Wait for a line, from the line number `after` on; the number of the line behind it."""
        fits = told if callable(told) else lambda line: told in line
        found: list[int] = []

        def there() -> bool:
            found[:] = [number for number, line in enumerate(self.lines) if number >= after and fits(line)]
            return bool(found) or self.process.poll() is not None

        with self._more:
            self._more.wait_for(there, TIMEOUT)
        assert found, "it never came; what was said:\n" + "\n".join(self.lines)
        return found[0] + 1

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(TIMEOUT)
        self._reader.join()
        return code


@contextmanager
def running(*arguments: str | Path, state: Path, flags: Iterable[str] = ()) -> Iterator[Running]:
    """Start `wharf run`, with `flags` before `run`; killed at the end if it still runs."""
    environment = {**os.environ, "WHARF_STATE": str(state), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*WHARF, *flags, "run", *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Running(process)
        finally:
            process.kill()
            process.wait()
