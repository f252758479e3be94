"""BuildKit's progress: the protobuf message StatusResponse (moby.buildkit.v1, control.proto), as far as a failed build's error needs it.

A handful of fields in four wire types: read here, so that no protobuf library is needed. What can't be understood is left out, never an error.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""The wire types (protobuf.dev, "Encoding")."""
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
_VERTEXES, _LOGS = 1, 3
_VERTEX_DIGEST, _VERTEX_NAME, _VERTEX_ERROR = 1, 3, 7
_LOG_VERTEX, _LOG_MESSAGE = 1, 4


@dataclass(frozen=True, slots=True)
class Vertex:
    """One step of a build. `error` is "" while it has not failed."""

    digest: str
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Log:
    """What a step wrote."""

    vertex: str
    message: bytes


def decoded(aux: object) -> tuple[Vertex | Log, ...]:
    """The steps and outputs of one `moby.buildkit.trace` record, in the message's order; empty for what is no base64."""
    try:
        raw = base64.b64decode(aux, validate=True) if isinstance(aux, str) else b""
    except (binascii.Error, ValueError):
        return ()
    return tuple(_status(raw))


def _status(raw: bytes) -> Iterator[Vertex | Log]:
    for number, value in _fields(raw):
        if number == _VERTEXES:
            said = dict(_fields(value))
            yield Vertex(_text(said, _VERTEX_DIGEST), _text(said, _VERTEX_NAME), _text(said, _VERTEX_ERROR))
        elif number == _LOGS:
            said = dict(_fields(value))
            yield Log(_text(said, _LOG_VERTEX), said.get(_LOG_MESSAGE, b""))


def _text(said: dict[int, bytes], number: int) -> str:
    return said.get(number, b"").decode("utf-8", "replace")


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The number and bytes of each field that has bytes; ends at the first that is cut off or of a type that is none."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind, size = key & 7, 0
        if kind in {_VARINT, _BYTES}:
            size, at = _varint(raw, at)
        elif kind not in _WIDTHS:
            return
        width = size if kind == _BYTES else _WIDTHS.get(kind, 0)
        if at + width > len(raw):
            return
        if kind == _BYTES:
            yield key >> 3, raw[at : at + width]
        at += width


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; behind the end of the bytes when it is cut off or longer than any."""
    value = 0
    for i, byte in enumerate(raw[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, at + i + 1
    return 0, len(raw) + 1
