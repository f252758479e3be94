"""The headers of a tar, one by one (POSIX.1-2001 pax, ustar, GNU long names): read, never extracted, all bounded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from controller.domain.errors import CorruptError

SECTOR = 512
_MAX_EXTENSION = 1 << 20
_MAX_EXTENSIONS = 16
_MAX_HEADERS = 200_000
_MAX_SIZE = 1 << 50
_ZERO = bytes(SECTOR)
_WITHOUT_DATA = b"123456"
_REGULAR = b"0\x007"


class Kind(StrEnum):
    """What a member is; the words are those of messages."""

    FILE = "a file"
    SYMLINK = "a symbolic link"
    LINK = "a hard link"
    FOLDER = "a folder"
    SPARSE = "a sparse file"
    OTHER = "a device, a pipe or something else"


_KINDS = {b"1": Kind.LINK, b"2": Kind.SYMLINK, b"5": Kind.FOLDER, b"S": Kind.SPARSE, **{bytes([each]): Kind.FILE for each in _REGULAR}}


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `name` is relative and clean, "" when it leads out of the archive or can't be printed; `offset` is where its data begin."""

    name: str
    kind: Kind
    size: int
    target: str
    offset: int

    @property
    def stored(self) -> int:
        """The bytes that it takes up, padding and all."""
        return -(-self.size // SECTOR) * SECTOR


class Sectors(Protocol):
    """Where headers are read from."""

    @property
    def position(self) -> int:
        """The bytes that were read or passed over so far."""
        ...

    def take(self, size: int) -> bytes:
        """So many bytes, fewer at the end only."""
        ...

    def skip(self, size: int) -> None:
        """Pass over so many bytes; CorruptError when there are fewer."""
        ...


class Headers:
    """Reads header by header; between two calls the caller passes over the member's data."""

    def __init__(self, sectors: Sectors, what: str) -> None:
        self._sectors = sectors
        self._what = what
        self._global: dict[str, str] = {}
        self._count = 0

    def next(self) -> Entry | None:
        """The next member, None at the end. CorruptError when the tar is damaged or has no end of headers."""
        pax: dict[str, str] = {}
        for _ in range(_MAX_EXTENSIONS):
            block = self._block()
            if block is None:
                if pax:
                    raise self._corrupt("it ends in the middle of a header")
                return None
            kind, size = block[156:157], self._number(block[124:136])
            match kind:
                case b"L" | b"K":
                    pax["path" if kind == b"L" else "linkpath"] = _text(self._extension(size).rstrip(b"\0"))
                case b"x":
                    pax |= self._records(self._extension(size))
                case b"g":
                    self._global |= self._records(self._extension(size))
                case _:
                    return self._entry(block, kind, size, {**self._global, **pax})
        raise self._corrupt(f"more than {_MAX_EXTENSIONS} extensions of one header")

    def _block(self) -> bytes | None:
        self._count += 1
        if self._count > _MAX_HEADERS:
            raise self._corrupt(f"more than {_MAX_HEADERS} members")
        block = self._sectors.take(SECTOR)
        if not block or block == _ZERO:
            return None
        if len(block) < SECTOR:
            raise self._corrupt("it ends in the middle of a header")
        said = _octal(block[148:156])
        if said not in {sum(block) - sum(block[148:156]) + 8 * 32, _signed_sum(block)}:
            where = "it begins with no tar header" if self._count == 1 else f"the header at byte {self._sectors.position - SECTOR} is damaged"
            raise self._corrupt(where)
        return block

    def _entry(self, block: bytes, letter: bytes, size: int, pax: dict[str, str]) -> Entry:
        if letter == b"S":
            self._pass_sparse_map(block)
        kind = _KINDS.get(letter, Kind.OTHER)
        name = pax.get("path") or _own_name(block)
        if kind is Kind.FILE and (name.endswith("/") or any(key.startswith("GNU.sparse.") for key in pax)):
            kind = Kind.FOLDER if name.endswith("/") else Kind.SPARSE
        if letter in _WITHOUT_DATA:
            size = 0
        elif "size" in pax:
            size = self._decimal(pax["size"])
        target = pax.get("linkpath") or _text(_cut(block[157:257]))
        return Entry(clean(name), kind, size, target, self._sectors.position)

    def _pass_sparse_map(self, block: bytes) -> None:
        more = block[482]
        for _ in range(_MAX_EXTENSION // SECTOR):
            if not more:
                return
            further = self._sectors.take(SECTOR)
            if len(further) < SECTOR:
                break
            more = further[504]
        raise self._corrupt("a sparse file's map without an end")

    def _extension(self, size: int) -> bytes:
        if size > _MAX_EXTENSION:
            raise self._corrupt(f"a header of {size} bytes")
        padded = -(-size // SECTOR) * SECTOR
        data = self._sectors.take(padded)
        if len(data) < padded:
            raise self._corrupt("it ends in the middle of a header")
        return data[:size]

    def _records(self, data: bytes) -> dict[str, str]:
        """The records of a pax header: `<length> <key>=<value>` and a line feed."""
        found: dict[str, str] = {}
        while data.strip(b"\0"):
            length, _, _ = data.partition(b" ")
            end = int(length) if length.isdigit() and len(length) < 8 else 0  # noqa: PLR2004 - digits of _MAX_EXTENSION
            key, equals, value = data[len(length) + 1 : end].partition(b"=")
            if not equals or not value.endswith(b"\n") or end > len(data):
                raise self._corrupt("a pax header that is none")
            found[_text(key)] = _text(value[:-1])
            data = data[end:]
        return found

    def _number(self, field: bytes) -> int:
        """Octal, or base 256 as GNU writes what is too large for that."""
        if field[0] & 0x80:
            number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        else:
            number = _octal(field)
            if number < 0:
                raise self._corrupt(f"a header with a number {field!r}")
        return self._sane(number)

    def _decimal(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 19:  # noqa: PLR2004 - digits of a 64-bit number
            raise self._corrupt("a pax header with a size that is no number")
        return self._sane(int(text))

    def _sane(self, number: int) -> int:
        if number > _MAX_SIZE:
            raise self._corrupt(f"a member of {number} bytes")
        return number

    def _corrupt(self, answer: str) -> CorruptError:
        return CorruptError(f"reading the tar {self._what}", answer, hint="it is no whole image archive: make or fetch it again")


def clean(name: str) -> str:
    """A member's name without `./` and double slashes; "" when it is absolute, leads out of the archive, or can't be printed."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return "" if name.startswith("/") or ".." in parts or not name.isprintable() else "/".join(parts)


def _octal(field: bytes) -> int:
    """A number as most tars write it; -1 for what is none."""
    text = field.strip(b" \0") or b"0"
    return int(text, 8) if all(each in b"01234567" for each in text) else -1


def _own_name(block: bytes) -> str:
    name = _text(_cut(block[:100]))
    prefix = _text(_cut(block[345:500])) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _cut(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _signed_sum(block: bytes) -> int:
    """The checksum as some old programs make it: of signed bytes."""
    counted = block[:148] + b" " * 8 + block[156:]
    return sum(each - 256 * (each > 127) for each in counted)  # noqa: PLR2004 - the largest signed byte
