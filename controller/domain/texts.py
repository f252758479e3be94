"""The forms of text in desired-state files: what each is called, what it may be, and an error that says what was expected.

Each form is one annotated type: pydantic checks it, the JSON Schema shows its pattern, docs/desired-state.md explains it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from controller.domain.errors import InvalidReferenceError, UsageError
from controller.domain.reference import Pattern, parse, split_domain

_SIZES = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = "".join(f"([0-9]{{1,6}}{unit})?" for unit in _UNITS)
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_LISTEN = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}"
_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_ENGINE = rf"env|unix:///\S+|(?:tcp|http|https)://{_HOST}/?|ssh://(?:[A-Za-z0-9._-]+@)?{_HOST}(?:/\S*)?"
_VERSION = r"(?:>=|<=|>|<|=|\^|~)? ?v?[0-9]+(?:\.[0-9]+){0,2}(?:-[0-9A-Za-z.-]+)?"


class MisfitError(ValueError):
    """A value, or fields together, that do not fit. Pydantic carries it to the loader, which knows the place.

    `found` says what is wrong where the value alone does not; `field` is the one to point at when a whole mapping is checked.
    """

    def __init__(self, expected: str, found: str = "", field: str = "") -> None:
        super().__init__(f"found {found}; expected {expected}" if found else f"expected {expected}")
        self.expected = expected
        self.found = found
        self.field = field


@dataclass(frozen=True, slots=True)
class Form:
    """What a form of text is called, what it means, examples of it, and where an editor can check it the regular expression."""

    name: str
    meaning: str
    examples: tuple[str, ...]
    pattern: str = ""

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The form in JSON Schema; called by pydantic."""
        return {"type": "string"} | ({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}) | {"examples": list(self.examples)}


def _matching(pattern: str, expected: str) -> AfterValidator:
    def check(said: str) -> str:
        if not re.fullmatch(pattern, said):
            raise MisfitError(expected)
        return said

    return AfterValidator(check)


def _parsed_by(grammar: Callable[[str], object]) -> AfterValidator:
    def check(said: str) -> str:
        try:
            grammar(said)
        except InvalidReferenceError as error:
            raise MisfitError(error.expected, error.found) from error
        return said

    return AfterValidator(check)


def seconds(said: object) -> float:
    """The seconds of a duration in words, such as 1h30m; MisfitError when it is none."""
    match = re.fullmatch(_DURATION, said) if isinstance(said, str) and said else None
    if match is None:
        raise MisfitError("a duration such as 30s, 10m or 1h30m")
    return float(sum(int(part[:-1]) * _UNITS[part[-1]] for part in match.groups() if part))


def duration(seconds_: float) -> str:
    """Whole seconds in words, by the largest units: 5400 is 1h30m."""
    left, words = int(seconds_), ""
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        words += f"{count}{unit}" if count else ""
    return words or "0s"


def size(count: int) -> str:
    """Bytes for people, in powers of 1000 as Docker prints them: 12.3 MB; "" for none."""
    if count <= 0:
        return ""
    value, units = float(count), iter(_SIZES)
    unit = next(units)
    while value >= _STEP and (larger := next(units, "")):
        value, unit = value / _STEP, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _domain(said: str) -> str:
    """An address that an image name can begin with. Any other would be taken for a repository of docker.io."""
    host, _, port = said.rpartition(":") if re.search(r":[0-9]+$", said) else (said, "", "")
    if not re.fullmatch(_HOST, said) or (port and not 0 < int(port) < 1 << 16) or not host:
        raise MisfitError("host or host:port, without a scheme")
    if split_domain(f"{said}/x")[0] != said:
        raise MisfitError(f"an address that image names can begin with: with a dot or a port, such as {said}:5000, or localhost")
    try:
        parse(f"{said}/x")
    except InvalidReferenceError as error:
        raise MisfitError("host or host:port, without a scheme") from error
    return said


def address_of(said: str) -> str:
    """The text, if it is an address; UsageError otherwise."""
    try:
        return _domain(said)
    except MisfitError as error:
        raise UsageError(f"{said}: expected {error.expected}") from None


def _url(said: str) -> str:
    if not re.fullmatch(rf"https?://{_HOST}/?", said):
        raise MisfitError("http://host:port or https://host:port, without a path and without credentials")
    return said.rstrip("/")


def _registry_url(said: str) -> str:
    """Its address is the beginning of image names, too."""
    scheme, _, address = _url(said).partition("://")
    try:
        _domain(address)
    except MisfitError as error:
        raise MisfitError(f"{scheme}:// and {error.expected}") from error
    return f"{scheme}://{address}"


def _listen(said: str) -> str:
    """Where a server of ours listens: a host and a port that can be."""
    if not re.fullmatch(_LISTEN, said) or not 0 < int(said.rpartition(":")[2]) < 1 << 16:
        raise MisfitError("host:port to listen on, such as 127.0.0.1:9090, or [::1]:9090")
    return said


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(duration, return_type=str),
    Form("duration", "Days, hours, minutes and seconds, in this order; each may be left out.", ("30s", "10m", "1h30m"), r"([0-9]{1,6}[dhms]){1,4}"),
]
PatternText = Annotated[
    str,
    _parsed_by(Pattern),
    Form(
        "pattern",
        "A glob over canonical names. `*` and `?` stop at `/`, `**` crosses it. Without a tag it means every tag.",
        ("cyroid/**", "docker:*-dind", "ghcr.io/**:v*"),
    ),
]
ReferenceText = Annotated[
    str,
    _parsed_by(parse),
    Form("image name", "`repository:tag`, with a domain or without, and `@sha256:...` for a digest. No tag means `latest`.", ("cyroid/kali:latest",)),
]
Address = Annotated[
    str,
    AfterValidator(_domain),
    Form("address", "`host` or `host:port`, as image names begin with it: it has a dot or a port, or is `localhost`.", ("172.30.0.16:5000",), _HOST),
]
Url = Annotated[
    str,
    AfterValidator(_url),
    Form("URL", "`http://` or `https://` and `host` or `host:port`; no path, no credentials.", ("https://mirror.example",), rf"https?://{_HOST}/?"),
]
RegistryUrl = Annotated[
    str,
    AfterValidator(_registry_url),
    Form(
        "registry URL",
        "A URL whose host is an address: `http://registry:80`, not `http://registry`.",
        ("http://127.0.0.1:5000",),
        rf"https?://{_HOST}/?",
    ),
]
Listen = Annotated[
    str,
    AfterValidator(_listen),
    Form("listen address", "`host:port`: an address of this machine, and a port; `0.0.0.0` is every address of it.", ("127.0.0.1:9090",), _LISTEN),
]
Engine = Annotated[
    str,
    _matching(_ENGINE, "unix:///path, tcp://host:port, ssh://user@host, or env"),
    Form(
        "engine",
        "`unix:///path`, `tcp://host:port`, `http(s)://host:port`, `ssh://user@host[:port][/path/of.sock]`, or `env` for DOCKER_HOST.",
        ("unix:///var/run/docker.sock", "env"),
        _ENGINE,
    ),
]
Name = Annotated[
    str,
    _matching(_NAME, "a name of lowercase letters, digits, '-' and '.', which begins and ends with a letter or a digit"),
    Form("name", "Lowercase letters, digits, `-` and `.`; it begins and ends with a letter or a digit.", ("default",), _NAME),
]
FilePath = Annotated[
    str,
    Field(min_length=1),
    Form("path", "A path of the machine that runs `wharf`; a relative one begins at the folder of the file that says it.", ("catalog/kali",), r".+"),
]
Platform = Annotated[
    str,
    _matching(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?", "os/architecture, such as linux/amd64 or linux/arm/v7"),
    Form("platform", "`os/architecture` or `os/architecture/variant`.", ("linux/amd64", "linux/arm/v7"), r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?"),
]
VersionRange = Annotated[
    str,
    _matching(rf"{_VERSION}(?:(?:, ?| ){_VERSION})*", "a range of versions, such as '>=3.19' or '>=1.2 <2'"),
    Form(
        "version range",
        "Comparisons by `=`, `>`, `>=`, `<`, `<=`, `^`, `~` with a space between them; all must hold.",
        (">=3.19", ">=1.2 <2"),
        rf"{_VERSION}(?:(?:, ?| ){_VERSION})*",
    ),
]
TagGlob = Annotated[
    str,
    _matching(r"[A-Za-z0-9_.*?-]+", "a tag in which '*' and '?' may stand"),
    Form("tag pattern", "A tag in which `*` and `?` may stand.", ("1.*-alpine",), r"[A-Za-z0-9_.*?-]+"),
]
