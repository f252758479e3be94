"""The docker SDK's exceptions and an engine's in-stream errors -> our errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import docker.errors
import requests
import urllib3.exceptions

from controller.domain.errors import DeniedError, NotFoundError, RefusedError, RemoteError, UnreachableError

_DENIED = re.compile(r"denied|unauthori[sz]ed|no basic auth|authentication required|forbidden", re.IGNORECASE)
_SILENT = re.compile(
    r"connection refused|timeout|timed out|no such host|no route|connection reset|unreachable|\bEOF\b|server misbehaving"
    r"|deadline exceeded|x509: |HTTP response to HTTPS client",
    re.IGNORECASE,
)
_OF_A_REGISTRY = re.compile(r'\b(?:Get|Head|Post) "https?://')
"""How an engine begins to tell what a registry answered it, or that it did not."""


@contextmanager
def told(tried: str, url: str) -> Iterator[None]:
    """Whatever the SDK raises inside becomes a RemoteError that says what was tried."""
    try:
        yield
    except docker.errors.APIError as error:
        raise _answered(error, tried) from None
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnreachableError(tried, _words(error), hint=_hint(error, url)) from None


def in_stream(words: str, tried: str) -> RemoteError:
    """push, pull and build answer HTTP 200 and report failure inside the stream."""
    if _DENIED.search(words):
        return DeniedError(tried, words, hint="check the credentials: docker login, or usernameFile and passwordFile")
    if _SILENT.search(words):
        return UnreachableError(tried, words, hint="can this engine reach the registry? See registryAddress")
    return RefusedError(tried, words)


def _answered(error: docker.errors.APIError, tried: str) -> RemoteError:
    answer = f"{error.status_code or ''} {error.explanation or error}".strip()
    match error.status_code:
        case 404:
            return NotFoundError(tried, answer)
        case 401 | 403:
            return DeniedError(tried, answer)
        case status if status is not None and status >= 500:  # noqa: PLR2004 - HTTP's server errors
            told_first = in_stream(answer, tried)
            if _OF_A_REGISTRY.search(answer) and not isinstance(told_first, RefusedError):
                return told_first
            return RefusedError(tried, answer, retryable=True)
        case _:
            return RefusedError(tried, answer)


def _words(error: Exception) -> str:
    """The innermost reason, in one line."""
    inner: BaseException = error
    while inner.__context__ is not None or inner.__cause__ is not None:
        inner = inner.__cause__ or inner.__context__ or inner
    words = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(str(words).split())[:200]


def _hint(error: Exception, url: str) -> str:
    words = f"{error} {_words(error)}".lower()
    if url.startswith("ssh"):
        return f"{url}: is a Docker Engine running there, and may that user reach its socket?"
    if "permission denied" in words:
        return f"{url}: run as root, or as a member of the docker group"
    if "certificate verify failed" in words:
        return f"{url}: its certificate is not by the authority of tls.caFile, or for another name"
    if "certificate required" in words or "bad certificate" in words:
        return f"{url}: it wants a certificate of its own authority: tls.certFile and tls.keyFile"
    if "400 client error" in words and url.startswith("tcp"):
        return f"{url}: if it wants TLS, say `tls` of this host"
    if "no such file" in words:
        return f"{url}: there is no such socket; is the engine running?"
    return f"{url}: is a Docker Engine running there?"
