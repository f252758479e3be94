"""The product's error tree.

    WharfError
    ├── UsageError                 a file, a flag or a name that a person has to mend (exit code 1)
    │   ├── InvalidReferenceError  a text that is no image reference
    │   └── DocumentsError         problems in desired-state files, each with its place
    ├── MovedError                 the world is not what the plan was made from: look again
    ├── UnprovenError              the registry could not be shown to hold this content (law 1)
    ├── LockedError                another controller works on this Wharf (exit code 1)
    └── RemoteError                what the other side of a wire answered; knows whether it is worth a retry
        ├── UnreachableError       no answer at all: refused, timed out, reset
        ├── NotFoundError          the other side said that it does not exist
        ├── DeniedError            401 or 403, or credentials that can't be had
        ├── RefusedError           the other side understood, and refuses (4xx, 409, an error in a stream)
        │   └── CollectingError    the registry's garbage is being collected, so nothing is written to it now
        └── CorruptError           what came is not what its digest, length or type says

Law 9: every message says which image, what was tried, what the other side answered and what to do.
Law 7: no message carries a secret; URLs are redacted where the error is made.
"""

from __future__ import annotations


class WharfError(Exception):
    """Any failure that Wharfinger itself reports; its text is fit for people."""


class UsageError(WharfError):
    """A file, a flag or a name that a person has to mend."""


class InvalidReferenceError(UsageError):
    """A text that is no image reference and no pattern. `found` says which part is wrong, `expected` what stands there by the grammar."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found}; expected {expected}")
        self.found = found
        self.expected = expected


class MovedError(WharfError):
    """The world is not what the plan was made from; nothing was changed, and the next look plans anew."""


class UnprovenError(WharfError):
    """The registry could not be shown to hold an image's content, so the image stays where it is (law 1)."""


class LockedError(WharfError):
    """Another controller works on this Wharf already."""


class RemoteError(WharfError):
    """What a registry or an engine answered, or failed to answer.

    `tried` is the request in words ("HEAD http://127.0.0.1:5000/v2/a/manifests/1"), `answer` the other side's words, `hint` what to do,
    `retryable` whether the same request may pass later, `retry_after` the seconds that the other side asked for.
    """

    retryable_by_default = False

    def __init__(
        self,
        tried: str,
        answer: str,
        *,
        hint: str = "",
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{tried}: {answer}" + (f" ({hint})" if hint else ""))
        self.tried = tried
        self.answer = answer
        self.hint = hint
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after = retry_after


class UnreachableError(RemoteError):
    """No answer at all: connection refused, timed out, reset, or cut off halfway."""

    retryable_by_default = True


class NotFoundError(RemoteError):
    """The other side answered that it does not exist."""


class DeniedError(RemoteError):
    """The other side wants other credentials, or forbids it."""


class RefusedError(RemoteError):
    """The other side understood the request and refuses it."""


class CollectingError(RefusedError):
    """The registry's garbage is being collected: nothing is written to it until that is over, and reading goes on."""

    retryable_by_default = True


class CorruptError(RemoteError):
    """What came is not what its digest, its length or its media type says."""
