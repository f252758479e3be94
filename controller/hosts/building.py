"""A build on an engine: a tar goes out, progress comes in, and what was built is what the tag means afterwards."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any

from controller.domain.errors import RefusedError, RemoteError
from controller.domain.ports.hosts import BuildRequest
from controller.domain.ports.registries import Advance
from controller.domain.reference import split_domain
from controller.hosts.buildkit import Log, decoded
from controller.hosts.failures import in_stream
from controller.hosts.sending import Sending
from controller.hosts.streams import Client, Login, auth_of, encoded

_LINES = 20
_LINE = 300
_STEP = 200
_TAIL = 16 << 10
"""Bytes of a step's output that are kept."""
_STEPS = 256
"""Steps that are remembered; the failed one is among the last."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_RAN = re.compile(r"exit code: \d+|returned a non-zero code")
_SINCE_BUILDKIT = (1, 39)


class Build(Sending):
    """One build; `context` is its tar, which is read as the engine takes it."""

    def __init__(self, tried: str, request: BuildRequest, context: AsyncIterator[bytes], advance: Advance) -> None:
        super().__init__(tried, context, advance)
        self._request = request
        self._output = BuildOutput()
        self._named = ""

    def run(self, client: Client, login: Login | None) -> str:
        """Build, in a thread; the Id. Raises what the stream says."""
        headers = {"Content-Type": "application/x-tar", "X-Registry-Config": _registry_config(self._request.tag, login)}
        parameters = _parameters(self._request) | {"version": "2" if has_buildkit(client) else "1"}
        url = client._url("/build")  # noqa: SLF001 - the SDK's build() lacks `version`
        for record in self.records(client, url, params=parameters, headers=headers, data=self.sending()):
            self._output.read(record)
            aux = record.get("aux")
            if isinstance(aux, dict) and isinstance(aux.get("ID"), str):
                self._named = aux["ID"]
        found = str(client.inspect_image(self._request.tag)["Id"])
        if self._named and found != self._named:
            raise RefusedError(self.tried, f"the engine built {self._named[:19]}, and the tag means {found[:19]}", hint="somebody else moved it")
        return found

    def failed(self, words: str) -> RemoteError:
        """With the step that failed and the last lines of its output. A command that ended badly is no answer of a registry's."""
        error = in_stream(words, self.tried)
        kind = RefusedError if _RAN.search(words) else type(error)
        return kind(self.tried, self._output.failure(words), hint="" if kind is RefusedError else error.hint)


class BuildOutput:
    """The end of what each step wrote, by either builder's records; bounded, whatever a build writes."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, str] = OrderedDict()
        self._tails: OrderedDict[str, bytes] = OrderedDict()
        self._failed = ""

    def read(self, record: Mapping[str, Any]) -> None:
        """Take in one record."""
        stream = record.get("stream")
        if isinstance(stream, str):
            self._legacy(stream)
        elif record.get("id") == "moby.buildkit.trace":
            for told in decoded(record.get("aux")):
                if isinstance(told, Log):
                    self._wrote(told.vertex, told.message)
                else:
                    _keep(self._steps, told.digest, told.name[:_STEP])
                    # A step that was only stopped because another one failed is not the one that failed.
                    if told.error and not (self._failed and "cancel" in told.error):
                        self._failed = told.digest

    def failure(self, words: str) -> str:
        """The engine's words, the step that failed, and the last lines of what it wrote."""
        step = printable(self._steps.get(self._failed, ""))
        lines = _lines(self._tails.get(self._failed, b""))
        said = f"{step}: {_line(words)}" if step else _line(words)
        return "\n".join([f"{said}; its output ends with:", *(f"  {line}" for line in lines)]) if lines else said

    def _legacy(self, text: str) -> None:
        """The legacy builder numbers its steps, and has one at a time."""
        if re.match(r"Step \d+/\d+ : ", text):
            self._failed = text.partition(" : ")[0]
            self._steps = OrderedDict({self._failed: text.strip()[:_STEP]})
            self._tails.clear()
        elif not text.startswith((" ---> ", "Removing intermediate container ")):
            self._wrote(self._failed, text.encode("utf-8", "replace"))

    def _wrote(self, step: str, text: bytes) -> None:
        _keep(self._tails, step, (self._tails.get(step, b"") + text)[-_TAIL:])


def _keep(kept: OrderedDict[str, Any], key: str, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _STEPS:
        kept.popitem(last=False)


def _lines(raw: bytes) -> list[str]:
    """The last lines that say something."""
    lines = (_line(line) for line in re.split(r"[\r\n]+", raw.decode("utf-8", "replace")))
    return [line for line in lines if line.strip()][-_LINES:]


def _line(text: str) -> str:
    return printable(text)[:_LINE]


def printable(text: str) -> str:
    """The text without escape sequences and control characters, those that turn its direction too: it comes from a build, and goes to a terminal."""
    plain = _ESCAPES.sub("", text.replace("\t", " "))
    return "".join(character for character in plain if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def has_buildkit(client: Client) -> bool:
    """Whether the engine builds by BuildKit: it says so, or is of the years in which it had it and said nothing.

    The legacy builder leaves an image without a name behind for each step, so it is the second choice.
    """
    answer = client._get(client._url("/_ping"))  # noqa: SLF001 - the SDK's ping() gives no headers
    client._raise_for_status(answer)  # noqa: SLF001 - the SDK's errors, which failures.py knows
    said = answer.headers.get("Builder-Version", "")
    if said:
        return bool(said == "2")
    version = tuple(int(part) for part in str(client._version).split("."))  # noqa: SLF001 - the negotiated version has no public name
    return version >= _SINCE_BUILDKIT and answer.headers.get("Ostype", "linux") == "linux"


def _parameters(request: BuildRequest) -> dict[str, str]:
    source = request.source
    chosen = {"target": source.target, "platform": source.platform}
    return {
        "t": request.tag,
        "dockerfile": source.dockerfile,
        "buildargs": json.dumps(dict(source.args)),
        "labels": json.dumps(dict(request.labels)),
        "rm": "1",
        "forcerm": "1",
        **{name: value for name, value in chosen.items() if value},
    }


def _registry_config(tag: str, login: Login | None) -> str:
    """The one login that the engine may use for FROM: that of the registry which gets the result, for this address alone (law 7)."""
    return encoded({} if login is None else {split_domain(tag)[0]: auth_of(login)})
