"""Messages by Apprise, to the URLs that a file holds. URLs carry passwords and tokens, so none of them is ever told (law 7)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from controller.domain.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from apprise import Apprise, NotifyBase, NotifyType

log = logging.getLogger(__name__)

_MAX_FILE = 1 << 16

# It logs URLs that it does not understand, and requests' errors that have them. What failed is said here, without them.
logging.getLogger("apprise").disabled = True


class AppriseMessenger:
    """Fulfils `domain.ports.messages.Messenger`.

    The file is read for each message, so that it can be changed; it has one URL a line, and `#` for comments.
    """

    def __init__(self, url_file: Path) -> None:
        self._file = url_file

    async def send(self, title: str, body: str, *, trouble: bool) -> None:
        """Send it to all of them, in a thread; UnreachableError when none took it, RefusedError when the file is of no use."""
        await asyncio.to_thread(self._send, title, body, trouble)

    def _send(self, title: str, body: str, trouble: bool) -> None:  # noqa: FBT001 - send() says it by name
        from apprise import NotifyType  # noqa: PLC0415 - it takes a third of a second, which no other command should wait for

        tried, kind = f"sending a message by {self._file}", NotifyType.FAILURE if trouble else NotifyType.SUCCESS
        services = self._services()
        failed = [str(service.service_name) for service in services if not _taken(service, title, body, kind)]
        if len(failed) == len(services):
            raise UnreachableError(tried, f"not taken by {', '.join(sorted(failed))}", hint="try it: `apprise -vv -b test URL`")
        if failed:
            log.warning("%s: not taken by %s; others took it", tried, ", ".join(sorted(failed)))

    def _services(self) -> Apprise:
        from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - as above

        tried = f"reading {self._file}"
        try:
            with self._file.open("rb") as opened:
                text = opened.read(_MAX_FILE).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(tried, getattr(error, "strerror", None) or "it is no text", hint="one Apprise URL a line") from None
        services = Apprise(asset=AppriseAsset(app_id="Wharfinger", app_desc="Wharfinger", async_mode=False))
        for number, line in enumerate(text.splitlines(), 1):
            url = line.strip()
            if url and not url.startswith("#") and not services.add(url):
                raise RefusedError(tried, f"line {number} is no URL that Apprise knows", hint="one Apprise URL a line")
        if not services:
            raise RefusedError(tried, "there is no URL in it", hint="one Apprise URL a line")
        return services


def _taken(service: NotifyBase, title: str, body: str, kind: NotifyType) -> bool:
    """Whether a service took the message. Its code is other people's, for two hundred services: whatever goes wrong in it, it did not."""
    try:
        return bool(service.notify(body, title, kind))
    except Exception as error:  # noqa: BLE001 - as said
        log.debug("%s failed with %s", service.service_name, type(error).__name__)
        return False
