"""A network bridge of an engine's own: a dockerd without one (`--bridge=none`) deletes the machine's docker0, which may be somebody's."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from pathlib import Path

_ADD, _DELETE, _SET_FLAGS = 0x89A0, 0x89A1, 0x8914
"""SIOCBRADDBR, SIOCBRDELBR, SIOCSIFFLAGS (linux/sockios.h)."""


def make(name: str) -> bool:
    """Make it; False where this machine has no bridges to give (no right to, or no such driver)."""
    try:
        _ask(_ADD, name.encode() + b"\0")
    except OSError as error:
        return error.errno == errno.EEXIST
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
