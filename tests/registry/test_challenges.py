"""What a registry wants of us, and whether the token server that it names may hear who we are.

The registry is made up: a real one names the one realm that it was given.
"""

from __future__ import annotations

import httpx
import pytest

from controller.domain.errors import DeniedError
from controller.registry.auth import check_realm
from tests.registry.conftest import MakeClient
from tests.registry.tokens import Together, challenge, somebody
from tests.support.hostile import Asked, hostile, said


@pytest.mark.parametrize(
    "realm",
    ["", "token", "ftp://127.0.0.1/token", "http://[::1", "http://10.0.0.1/token", "http://192.0.2.1:5000/", "http://localhost.evil.example/"],
)
async def test_a_realm_that_does_not_belong_to_the_registry(client: MakeClient, realm: str) -> None:
    """A registry that sends us to somebody else for a token is denied, and nobody else hears of us (law 7)."""
    async with hostile(lambda asked: challenge(asked, realm)) as server:
        with pytest.raises(DeniedError, match=rf"asking .* for a token for {server.address}: .*no credentials are sent"):
            await client(server.url, credentials=somebody).ping()
        assert [each.authorization for each in server.asked] == [None]


@pytest.mark.parametrize(
    ("registry", "realm", "anonymous", "with_login"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True, True),
        ("https://ghcr.io", "https://ghcr.io/token", True, True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True, True),
        ("https://registry.example.org", "https://auth.example.org/token", True, True),
        ("https://example.org", "https://auth.example.org/token", True, True),
        ("https://lscr.io", "https://ghcr.io/token", True, False),
        ("https://registry.example.org", "https://example.org.evil.net/token", True, False),
        ("https://registry.example.org", "https://evilexample.org/token", True, False),
        ("https://registry.example.org", "http://registry.example.org/token", False, False),
        ("http://registry.example.org:5000", "http://registry.example.org:5001/token", True, True),
        ("http://registry:5000", "http://registry:5001/token", True, True),
        ("http://registry:5000", "http://auth:5001/token", True, False),
        ("http://127.0.0.1:5000", "http://localhost:5001/token", True, True),
        ("https://registry.example.org", "https://127.0.0.1/token", False, False),
        ("https://registry.example.org", "https://localhost/token", False, False),
        ("https://registry.example.org", "https://169.254.169.254/latest", False, False),
        ("http://10.0.0.5:5000", "http://10.0.0.6:5001/token", False, False),
        ("http://10.0.0.5:5000", "http://[::1]:5001/token", False, False),
        ("https://registry.example.org", "file:///etc/passwd", False, False),
        ("https://registry.example.org", "", False, False),
    ],
)
def test_which_realms_belong(registry: str, realm: str, anonymous: bool, with_login: bool) -> None:  # noqa: FBT001 # a table
    """Our login goes to the registry's own domain; without a login another name may be asked, but no address and nothing less safe."""
    for login, expected in ((False, anonymous), (True, with_login)):
        try:
            check_realm(httpx.URL(registry), httpx.URL(realm), "asking", with_login=login)
            allowed = True
        except DeniedError:
            allowed = False
        assert allowed is expected, f"with login: {login}"


@pytest.mark.parametrize(
    "headers",
    [
        ['bearer REALM="{}", service="here"'],
        ['Basic realm="a, b"', 'Bearer service="x",realm="{}"'],
        ['Negotiate, Basic realm="wharf", Bearer realm="{}",scope="repository:a:pull,push"'],
        ["Bearer realm={},service=here"],
    ],
)
async def test_ways_to_write_a_challenge(client: MakeClient, headers: list[str]) -> None:
    """Bearer is found among several challenges, in one header or many, quoted or not (RFC 9110, 11.6.1)."""
    script = Together()

    def varied(asked: Asked) -> bytes:
        answer = script(asked)
        lines = "".join(f"WWW-Authenticate: {each.format(f'http://{server.address}/token')}\r\n" for each in headers)
        return answer if answer.startswith(b"HTTP/1.1 200") else f"HTTP/1.1 401 No\r\nContent-Length: 0\r\n{lines}\r\n".encode()

    async with hostile(varied) as server:
        await client(server.url).ping()
    assert script.given == ["t0"]


@pytest.mark.parametrize("header", ["", "Negotiate", "Digest realm=x", "Bearer"])
async def test_challenges_that_nobody_can_meet(client: MakeClient, header: str) -> None:
    """A 401 that asks for what we do not have is DeniedError after one request."""
    async with hostile(lambda _: said(401, "UNAUTHORIZED", WWW_Authenticate=header)) as server:
        with pytest.raises(DeniedError, match=f"GET {server.url}/v2/: 401"):
            await client(server.url, credentials=somebody).ping()
        assert len(server.asked) == 1
