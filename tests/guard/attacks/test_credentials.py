"""Attempts with credentials, against one guard that runs as a process with real keys.

Forged, expired and guessed ones, keys that are rotated, and what the model's server gets to see.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from guarded import ROWS
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from running_guard import SERVING, Process, ask, read_metric, running
from unruly import Unruly, serving

from memberscope.errors import InputError
from memberscope.guard.identity.key_sources import AddressKeys, TokenKeysUnavailable
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.policy.tables import Jwt
from memberscope.wire import Credential

KEY = "s3cret-partner-key"
POLICY = f"""{SERVING}[default]
restrict = "label"
[[clients]]
name = "partners"
who = ["api_key:partner", "jwt:*"]
restrict = "top:1"
[identity]
by = ["api_key", "jwt", "network"]
trusted_proxies = ["127.0.0.0/8"]
failures = "3/m"
FORWARD
[[identity.keys]]
name = "partner"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
[identity.jwt]
KEYS
algorithms = ["RS256", "ES256"]
audience = "scores"
"""
SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE, NEXT, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ADDRESSES = count(1)


def token(key: Any, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    given = {"sub": "team-a", "aud": "scores", "exp": int(time.time()) + 10**6} | claims
    return jwt.encode(given, key, algorithm, None if kid is None else {"kid": kid})


def key_set(**keys: Any) -> bytes:
    """A JSON Web Key Set of public keys by name."""
    found = []
    for name, key in keys.items():
        maker = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        found.append(maker.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "use": "sig"})
    return json.dumps({"keys": found}).encode()


class Issuer:
    """A server that publishes keys; with `status` 500 it fails."""

    def __init__(self, content: bytes) -> None:
        self.content, self.status, self.asked = content, 200, 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                self.end_headers()
                self.wfile.write(issuer.content)

            def log_message(self, *given: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Front:
    """The running guard, its upstream, and its policy's file."""

    def __init__(self, guard: Process, upstream: Unruly, file: Path) -> None:
        self.guard, self.upstream, self.file = guard, upstream, file
        self.ports = guard.said("serving")

    def put(self, keys: str, forward: str = "") -> None:
        """Put a policy with these keys in force."""
        self.file.write_text(POLICY.replace("KEYS", keys).replace("FORWARD", forward))
        assert ask(self.ports["admin_port"], "POST", "/reload")[0] == 200

    def score(self, *, address: str | None = None, **headers: str) -> tuple[int, Any]:
        """Status and document of an answer to a client of its own network, unless one is given."""
        if address is None:
            high, low = divmod(next(ADDRESSES), 250)
            address = f"10.{high}.{low}.1"
        status, body = ask(
            self.ports["port"], "POST", "/score", ROWS, **headers, x_forwarded_for=address
        )
        return status, json.loads(body)

    def until(self, status: int, **headers: str) -> None:
        """Ask, each time from another network, until the answer has that status."""
        end = time.monotonic() + 30
        while (found := self.score(**headers))[0] != status:
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def said_so_far(self) -> list[dict[str, Any]]:
        """The lines of the log that nobody has read."""
        found = [self.guard._queue.get() for _ in range(self.guard._queue.qsize())]
        self.guard.lines += found
        return found

    def refused(self, reason: str) -> float:
        """How many queries were refused for a reason."""
        return read_metric(self.ports["admin_port"], f'refused_total{{reason="{reason}"}}')


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "keys.json").write_bytes(key_set(old=CURVE, rsa=SIGNER))
    (folder / "guard.toml").write_text(
        POLICY.replace("KEYS", 'key_file = "keys.json"').replace("FORWARD", "")
    )
    upstream = Unruly()
    with serving(upstream) as url, running(folder, url) as (guard, file):
        yield Front(guard, upstream, file)


def forge(head: dict[str, Any], secret: bytes) -> str:
    """A token signed by HMAC with any bytes as its secret, which PyJWT refuses to make."""
    claims = {"sub": "admin", "aud": "scores", "exp": int(time.time()) + 10**6}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (head, claims)]
    text = b".".join(part.rstrip(b"=") for part in parts)
    signed = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return (text + b"." + signed).decode()


PEM = SIGNER.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
OWN = ECAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)
EXPIRED = int(time.time()) - 3600
FORGED = {
    "key": (("x_api_key", "guess"), "unknown"),
    "hash of the key": (("x_api_key", hashlib.sha256(KEY.encode()).hexdigest()), "unknown"),
    "name of the key": (("x_api_key", "partner"), "unknown"),
    "long key": (("x_api_key", KEY + "x" * 2000), "malformed"),
    "expired": (token(CURVE, "ES256", "old", exp=EXPIRED), "expired"),
    "none": (token(None, "none"), "algorithm"),
    "public key as secret": (forge({"alg": "HS256", "kid": "rsa"}, PEM), "algorithm"),
    "set as secret": (forge({"alg": "HS256", "kid": "rsa"}, key_set(rsa=SIGNER)), "algorithm"),
    "HMAC called RS256": (forge({"alg": "RS256", "kid": "rsa"}, PEM), "signature"),
    "none called ES256": (forge({"alg": "ES256", "kid": "old"}, b"")[:-43], "signature"),
    "key of the other kind": (token(CURVE, "ES256", "rsa"), "algorithm"),
    "unknown name": (token(CURVE, "ES256", "older"), "unknown_key"),
    "stranger": (token(STRANGER, "ES256", "old"), "signature"),
    "stranger without a name": (token(STRANGER, "ES256"), "signature"),
    "own key inside": (
        jwt.encode({"sub": "a"}, STRANGER, "ES256", {"jwk": OWN, "kid": "old"}),
        "signature",
    ),
    "other audience": (token(CURVE, "ES256", "old", aud="else"), "claims"),
    "other scheme": (("authorization", "Basic YTpi"), "malformed"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_wrong_credential_is_refused_logged_and_counted_and_not_answered(front, name):
    given, why = FORGED[name]
    header, value = given if isinstance(given, tuple) else ("authorization", f"Bearer {given}")
    before, counted = front.upstream.requests, front.refused("credential")
    status, document = front.score(**{header: value})
    assert (status, document["type"]) == (401, "urn:memberscope:guard:credentials-invalid")
    assert front.upstream.requests == before and front.refused("credential") == counted + 1
    line = front.guard.said("credential_refused")
    assert line["why"] == why and len(line["client"]) == 16
    assert value.split()[-1] not in json.dumps(front.guard.lines)


def test_right_and_missing_credentials_are_answered_as_their_classes_are(front):
    for headers, kind in (
        ({"x_api_key": KEY}, dict),
        ({"authorization": f"Bearer {token(CURVE, 'ES256', 'old')}"}, dict),
        ({"authorization": f"Bearer {token(SIGNER, 'RS256')}"}, dict),
        ({}, int),
        ({"x_api_key": ""}, int),
    ):
        status, document = front.score(**headers)
        assert status == 200 and isinstance(document["predictions"][0], kind)


def test_guesses_are_slowed_for_their_network_alone(front):
    address, neighbour = "172.16.0.1", "172.16.0.2"
    assert front.score(address=address, x_api_key=KEY)[0] == 200
    answers = [front.score(address=address, x_api_key=f"guess {i}")[0] for i in range(6)]
    assert answers[:3] == [401] * 3 and answers[4:] == [429] * 2
    # Not told from a wrong one, as this network has not proven it before
    right = f"Bearer {token(CURVE, 'ES256', 'old')}"
    status, document = front.score(address=address, authorization=right)
    assert (status, document["type"]) == (429, "urn:memberscope:guard:credentials-throttled")
    assert front.refused("guesses") >= 3
    assert front.score(address=neighbour, authorization=right)[0] == 200
    assert front.score(address=address, x_api_key=KEY)[0] == 200  # which it had proven before
    assert front.score(address=address)[0] == 200


def test_keys_in_a_file_are_rotated_without_a_reload(front):
    keys = front.file.parent / "keys.json"
    new = {"authorization": f"Bearer {token(NEXT, 'ES256', 'new')}"}
    old = {"authorization": f"Bearer {token(CURVE, 'ES256', 'old')}"}
    assert front.score(**new)[0] == 401
    keys.write_bytes(key_set(old=CURVE, new=NEXT))
    front.until(200, **new)
    assert front.score(**old)[0] == 200
    keys.write_bytes(b'{"keys": [')  # the last keys stay
    end = time.monotonic() + 30
    while "token_keys_failed" not in [line["event"] for line in front.said_so_far()]:
        assert front.score(**new)[0] == 200 and time.monotonic() < end
    assert front.score(**new)[0] == 200
    keys.write_bytes(key_set(new=NEXT))
    front.until(401, **old)
    assert front.score(**new)[0] == 200


def test_keys_at_an_address_are_rotated_when_a_token_names_an_unknown_one(front):
    issuer = Issuer(key_set(old=CURVE))
    old = {"authorization": f"Bearer {token(CURVE, 'ES256', 'old')}"}
    new = {"authorization": f"Bearer {token(NEXT, 'ES256', 'new')}"}
    try:
        front.put(f'jwks_url = "{issuer.url}"')
        front.until(200, **old)
        issuer.content = key_set(old=CURVE, new=NEXT)
        assert front.score(**new)[0] == 401 and front.score(**old)[0] == 200
        front.until(200, **new)
        assert issuer.asked == 2
        # At most once a minute, whatever strangers send
        for i in range(20):
            assert front.score(authorization=f"Bearer {token(NEXT, 'ES256', f'k{i}')}")[0] == 401
        # A policy that is read again goes on with the keys that are known
        front.put(f'jwks_url = "{issuer.url}"', "# changed")
        assert front.score(**new)[0] == 200 and issuer.asked == 2
    finally:
        issuer.close()


def test_no_credential_reaches_the_server_unless_the_policy_says_so(front):
    bearer = f"Bearer {token(SIGNER, 'RS256', 'rsa')}"
    sent = {"authorization": bearer, "x_api_key": KEY, "cookie": "session=1", "api_key": "a"}
    sent |= {"x_auth_token": "a", "proxy_authorization": "Basic a"}
    names = {name.replace("_", "-") for name in sent}
    (front.file.parent / "keys.json").write_bytes(key_set(rsa=SIGNER))
    for forward, passed in (("", set()), ('forward = ["Authorization"]', {"authorization"})):
        front.put('key_file = "keys.json"', forward)
        assert front.score(**sent, x_trace="7")[0] == 200
        seen = front.upstream.seen[-1]
        assert names & set(seen) == passed and seen["x-trace"] == "7"


def test_old_keys_count_while_new_ones_cannot_be_fetched_but_not_for_ever():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    def until(true: Any) -> None:
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

    issuer, clock = Issuer(key_set(old=CURVE)), Clock()
    try:
        keys = AddressKeys(Jwt(jwks_url=issuer.url, algorithms=("ES256",), stale_seconds=60), clock)
        keys.wait_for_first()  # as a guard does before it serves
        issuer.status, clock.now = 500, 59.0
        assert not keys.find("new")  # which asks for it
        until(lambda: issuer.asked == 2)
        assert len(keys.find("old")) == 1
        clock.now = 61.0
        with pytest.raises(TokenKeysUnavailable):
            keys.find("old")
        issuer.status = 200
        keys._wake.set()
        until(lambda: keys._good == 61.0)
        assert len(keys.find("old")) == 1
    finally:
        issuer.close()


# One that looks like a key, and one that does not
SECRETS = ("sk-live-4eC39HqLyjWDarjtT1zdp7dc", "hunter2")


def list_pasted(secret: str) -> list[dict[str, Any]]:
    """Policies with a secret where something else belongs."""
    return [
        {"identity": {"api_key": secret}},
        {"identity": {"keys": [secret]}},
        {"identity": {"keys": {"partner": secret}}},
        {"identity": {"keys": [{"name": "partner", "sha256": secret}]}},
        {"identity": {"keys": [{"name": f"{secret} ", "sha256": "ab" * 32}]}},
        {"identity": {"by": [secret]}},
        {"identity": {"jwt": secret}},
        {"identity": {"jwt": {"key_file": 7, "audience": [secret]}}},
        {"identity": {"by": ["jwt"], "jwt": {"key_file": secret}}},
        {"identity": {"by": ["jwt"], "jwt": {"jwks_url": f"https://user:{secret}@id.example"}}},
        {"identity": {"by": ["jwt"], "jwt": {"jwks_url": f"https://[{secret}"}}},
        {"identity": {"trusted_proxies": [secret]}},
        {"identity": {"forward": [f"{secret} "]}},
        {"identity": {"failures": secret}},
        {"clients": [{"name": "a", "who": [secret]}]},
        {"clients": [{"name": f"{secret} ", "who": []}]},
        {"clients": [{"name": "a", "who": [f"network:{secret}"]}]},
        {"default": {"per_client": secret}},
        {"default": {"restrict": secret}},
        {"monitor": {"key": secret, "sketch": "sketch"}},
        {"alerts": {"webhook": [secret]}},
        {"alerts": {"webhook": f"htp://{secret}"}, "monitor": {"key": "k", "sketch": "s"}},
        {"state": {"redis": f"http://:{secret}@localhost/0"}},
        {"state": {"redis": f"redis://:{secret}@localhost:port/0"}},
        {"state": {"password": secret}},
        {"key": secret},
    ]


# Elsewhere, and in networks, only what looks like a secret is not quoted
PASTED = [(tables, SECRETS[0]) for tables in list_pasted(SECRETS[0])]
PASTED += [
    (tables, SECRETS[1])
    for tables in list_pasted(SECRETS[1])
    if set(tables) & {"identity", "alerts", "state"} and "trusted_proxies" not in str(tables)
]


@pytest.mark.parametrize(("tables", "secret"), PASTED)
def test_a_key_that_is_pasted_into_the_policy_stands_in_no_sentence(tables, secret, tmp_path):
    from memberscope.guard.alerting.webhook import Webhook
    from memberscope.guard.server.embedded import GuardMiddleware

    table = {"serving": {"n_classes": 3}, "home": str(tmp_path)} | tables

    def use() -> None:
        policy = parse_guard_policy(table)
        if policy.alerts.webhook is not None:
            Webhook(policy.alerts.webhook, None, time.time)
        if policy.state.redis is not None:
            (tmp_path / "key").write_text(
                json.dumps({"format": "memberscope-key/1", "keys": [{"id": "a", "key": "00" * 32}]})
            )
            (tmp_path / "key").chmod(0o600)
            table["monitor"] = {"key": "key"}
            policy = parse_guard_policy(table)
        GuardMiddleware(lambda scope, receive, send: None, policy=policy)

    with pytest.raises(InputError) as refused:
        use()
    assert secret not in str(refused.value) and "Expected" in str(refused.value)


def test_nor_does_one_in_the_place_of_a_variables_name():
    with pytest.raises(InputError, match="environment variable that is named"):
        Credential(SECRETS[0]).secret()
    with pytest.raises(InputError, match="environment variable NO_SUCH_TOKEN, got none"):
        Credential("NO_SUCH_TOKEN").secret()


def test_nor_is_it_logged_or_shown_when_a_policy_is_read_again(front):
    front.file.write_text(POLICY.replace("FORWARD", f'api_key = "{SECRETS[1]}"'))
    status, body = ask(front.ports["admin_port"], "POST", "/reload")
    front.guard.said("reload_failed")
    assert status == 409 and SECRETS[1] not in body.decode() + json.dumps(front.guard.lines)
