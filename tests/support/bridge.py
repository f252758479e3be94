"""A network bridge of an engine's own: a dockerd without one (`--bridge=none`) deletes the machine's docker0, which may be somebody's."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from pathlib import Path

_ADD, _DELETE, _SET_FLAGS, _SET_ADDRESS, _SET_MASK = 0x89A0, 0x89A1, 0x8914, 0x8916, 0x891C
"""SIOCBRADDBR, SIOCBRDELBR, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK (linux/sockios.h)."""

_TESTING, _HOSTS = 0xC612_0000, 8
"""198.18.0.0/15, kept for tests (RFC 2544), in networks of eight addresses."""


def make(name: str, number: int) -> bool:
    """Make it, with an address by its number; False where this machine has no bridges to give (no right to, or no such driver).

    One without an address would be given one of the 31 networks that an engine has for all bridges of a machine, those of killed tests too.
    """
    try:
        _ask(_ADD, name.encode() + b"\0")
    except OSError as error:
        if error.errno != errno.EEXIST:
            return False
    first = _TESTING + number % (2**17 // _HOSTS) * _HOSTS
    for request, address in ((_SET_ADDRESS, first + 1), (_SET_MASK, 2**32 - _HOSTS)):
        _ask(request, struct.pack("!16s", name.encode()) + struct.pack("=H", socket.AF_INET) + struct.pack("!2xI8x", address))
    return True


def remove(name: str) -> None:
    """Take it down and remove it, if it is there."""
    if there(name):
        _ask(_SET_FLAGS, struct.pack("16sh14x", name.encode(), 0))
        _ask(_DELETE, name.encode() + b"\0")


def there(name: str) -> bool:
    """Whether a network interface has this name."""
    return (Path("/sys/class/net") / name).exists()


def _ask(request: int, argument: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, request, argument)
