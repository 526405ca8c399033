"""Who asks: what proves a client, what does not.

And that no header from outside changes who somebody is.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from memberscope.errors import InputError
from memberscope.guard.identity.client_identity import Client, Identifier
from memberscope.guard.identity.forwarded import parse_address
from memberscope.guard.policy.tables import ApiKey, Identity, Jwt
from memberscope.guard.refused import CredentialRefused, RequestRefused

FAR = int(time.time()) + 10**8
SECRET = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
PROXY, OUTSIDE = "10.0.0.1", "192.0.2.7"


def key(name: str, text: str) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(text.encode()).hexdigest())


def scope(*headers: tuple[str, str | bytes], peer: str | None = OUTSIDE, **more: object) -> dict:
    raw = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    ]
    return {
        "type": "http",
        "client": None if peer is None else (peer, 40000),
        "headers": raw,
        **more,
    }


def text(identifier: Identifier, *headers: tuple[str, str | bytes], **more: object) -> str:
    return identifier.client(scope(*headers, **more)).text


def refusal(identifier: Identifier, *headers: tuple[str, str | bytes], **more: object) -> str:
    """Why a request is refused, which has not sent too many wrong credentials before."""
    identifier.failures._full_at.clear()
    with pytest.raises(CredentialRefused) as refused:
        identifier.client(scope(*headers, **more))
    assert refused.value.status == 401 and refused.value.headers[0][0] == "www-authenticate"
    return refused.value.why


def public(private) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.fixture(scope="module")
def signer():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def tokens(tmp_path, signer) -> Identifier:
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    declared = Jwt(key_file="issuer.pem", audience="scores", issuer="https://id.example")
    return Identifier(Identity(by=("jwt", "network"), jwt=declared), tmp_path)


def claims(**changed: object) -> dict:
    found = {"sub": "team-a", "exp": FAR, "aud": "scores", "iss": "https://id.example"} | changed
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
def keyed() -> Identifier:
    listed = (key("partner", "s3cret"), key("batch", "other"))
    return Identifier(Identity(by=("api_key", "network"), keys=listed), Path("."))


def test_a_listed_key_proves_its_owner_and_nothing_else_does(keyed):
    assert keyed.client(scope(("X-Api-Key", "s3cret"))) == Client(
        "api_key", "partner", True, ipaddress.ip_address(OUTSIDE)
    )
    assert text(keyed, ("x-api-key", " other ")) == "api_key:batch"
    for wrong in ("S3cret", "s3cret2", "partner", hashlib.sha256(b"s3cret").hexdigest()):
        assert refusal(keyed, ("x-api-key", wrong)) == "unknown"
    for absent in ((), (("x-api-key", ""),), (("x-api-key", " "),)):
        found = keyed.client(scope(*absent))
        assert (found.text, found.proven) == (f"network:{OUTSIDE}/32", False)


def test_a_key_may_come_in_the_header_that_tokens_use():
    found = Identifier(
        Identity(
            by=("api_key", "network"), api_key_header="Authorization", keys=(key("a", "Key x"),)
        ),
        Path("."),
    )
    assert text(found, ("authorization", "Key x")) == "api_key:a"


def test_a_key_that_is_sent_twice_or_is_huge_is_refused(keyed):
    assert refusal(keyed, ("x-api-key", "s3cret"), ("x-api-key", "s3cret")) == "repeated"
    assert refusal(keyed, ("x-api-key", "s3cret"), ("x-api-key", "other")) == "repeated"
    assert refusal(keyed, ("x-api-key", "s3cret" + " " * 5000)) == "malformed"


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_guesses_are_slowed_by_network_and_neighbours_with_a_proven_key_go_on():
    clock = Clock()
    declared = Identity(
        by=("api_key", "network"),
        keys=(key("partner", "s3cret"), key("batch", "other")),
        failures="3/m",
    )
    found = Identifier(declared, Path("."), clock)
    right, guess = ("x-api-key", "s3cret"), ("x-api-key", "guess")
    assert text(found, right) == "api_key:partner"

    def asked(*headers, **more) -> int:
        try:
            found.client(scope(*headers, **more))
        except RequestRefused as refused:
            return refused.status
        return 200

    assert [asked(guess) for _ in range(5)] == [401, 401, 401, 429, 429]
    # A right key that this network has not proven is not told from a wrong one
    assert asked(("x-api-key", "other")) == 429
    assert asked(right) == 200 and asked() == 200
    assert asked(guess, peer="192.0.2.8") == 401
    with pytest.raises(CredentialRefused) as refused:
        found.client(scope(guess))
    assert dict(refused.value.headers) == {"retry-after": "20"}
    clock.now += 20.0
    assert asked(("x-api-key", "other")) == 200 and [asked(guess), asked(guess)] == [401, 429]
    # A site of IPv6 has 65,536 networks to guess from, which count as one
    hosts = [f"2001:db8:1:{i:x}::1" for i in range(5)]
    assert [asked(guess, peer=host) for host in hosts] == [401, 401, 401, 429, 429]


def test_a_proven_key_that_is_wrong_by_now_is_slowed_too(tmp_path, signer):
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    declared = Identity(by=("jwt",), jwt=Jwt(key_file="issuer.pem", leeway=0.0), failures="1/h")
    found = Identifier(declared, tmp_path)
    token = jwt.encode({"sub": "a", "exp": int(time.time()) + 3600}, signer, algorithm="RS256")
    header = ("authorization", f"Bearer {token}")
    assert text(found, header) == "jwt:a"
    found.tokens.keys._keys = ()  # as after a rotation
    assert refusal(found, header) == "unknown_key"
    with pytest.raises(CredentialRefused) as refused:
        found.client(scope(header))
    assert refused.value.status == 429


def test_a_wrong_credential_refuses_also_what_another_one_proves(tmp_path, signer):
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    expired = ("authorization", f"Bearer {jwt.encode({'sub': 'a', 'exp': 1}, signer, 'RS256')}")
    right = ("x-api-key", "s3cret")
    for by, answer in ((("jwt", "api_key"), "expired"), (("api_key", "jwt"), None)):
        declared = Identity(by=by, keys=(key("partner", "s3cret"),), jwt=Jwt(key_file="issuer.pem"))
        found = Identifier(declared, tmp_path)
        if answer is None:  # what comes behind a proof is not asked
            assert text(found, expired, right) == "api_key:partner"
        else:
            assert refusal(found, expired, right) == answer


def test_a_key_and_a_token_may_share_a_header(tmp_path, signer):
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    token = jwt.encode({"sub": "a", "exp": FAR}, signer, algorithm="RS256")
    for by in (("jwt", "api_key"), ("api_key", "jwt")):
        declared = Identity(
            by=by,
            api_key_header="Authorization",
            keys=(key("partner", "Key s3cret"),),
            jwt=Jwt(key_file="issuer.pem"),
        )
        found = Identifier(declared, tmp_path)
        assert text(found, ("authorization", "Key s3cret")) == "api_key:partner"
        assert text(found, ("authorization", f"Bearer {token}")) == "jwt:a"
        assert refusal(found, ("authorization", "Key guess")) in ("malformed", "unknown")


def test_two_keys_may_belong_to_one_client_so_that_keys_can_be_renewed():
    rotating = Identifier(
        Identity(by=("api_key",), keys=(key("partner", "old"), key("partner", "new"))), Path(".")
    )
    assert (
        text(rotating, ("x-api-key", "old"))
        == text(rotating, ("x-api-key", "new"))
        == "api_key:partner"
    )


def test_sources_are_asked_in_the_policys_order(tmp_path, signer):
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    token = jwt.encode(claims(aud=None, iss=None), signer, algorithm="RS256")
    headers = (("x-api-key", "s3cret"), ("authorization", f"Bearer {token}"))
    for by, first in (
        (("api_key", "jwt"), "api_key:partner"),
        (("jwt", "api_key"), "jwt:team-a"),
        (("network",), "network:192.0.2.7/32"),
    ):
        declared = Identity(by=by, keys=(key("partner", "s3cret"),), jwt=Jwt(key_file="issuer.pem"))
        assert text(Identifier(declared, tmp_path), *headers) == first


def test_a_signed_token_proves_its_subject(tokens, signer):
    for scheme in ("Bearer", "bearer", "BEARER"):
        header = ("Authorization", f"{scheme} {jwt.encode(claims(), signer, algorithm='RS256')}")
        assert text(tokens, header) == "jwt:team-a"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "claims"),
        ({"exp": "soon"}, "claims"),
        ({"exp": 1e400}, "claims"),
        ({"nbf": FAR}, "early"),
        ({"aud": "else"}, "claims"),
        ({"aud": None}, "claims"),
        ({"iss": "https://evil.example"}, "claims"),
        ({"iss": None}, "claims"),
        ({"sub": None}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": "a" * 300}, "claims"),
        ({"sub": "a\nverdict=ok"}, "claims"),
    ],
)
def test_a_token_that_lacks_something_is_refused(tokens, signer, changed, why):
    header = ("authorization", f"Bearer {jwt.encode(claims(**changed), signer, algorithm='RS256')}")
    assert refusal(tokens, header) == why


def test_clocks_may_differ_by_the_leeway(tmp_path, signer):
    (tmp_path / "issuer.pem").write_bytes(public(signer))
    now = int(time.time())
    for leeway, expired in ((300.0, False), (0.0, True)):
        declared = Identity(by=("jwt",), jwt=Jwt(key_file="issuer.pem", leeway=leeway))
        found = Identifier(declared, tmp_path)
        for late in ({"exp": now - 100}, {"exp": FAR, "nbf": now + 100}):
            token = jwt.encode({"sub": "a"} | late, signer, algorithm="RS256")
            header = ("authorization", f"Bearer {token}")
            if expired:
                assert refusal(found, header) in ("expired", "early")
            else:
                assert text(found, header) == "jwt:a"


def test_a_token_that_others_signed_or_nobody_proves_nothing(tokens, signer):
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = jwt.encode(claims(), signer, algorithm="RS256")
    head, body, signature = good.split(".")
    other = jwt.encode(claims(sub="admin"), stranger, algorithm="RS256")
    forged = [
        other,
        jwt.encode(claims(), None, algorithm="none"),
        jwt.encode(claims(), SECRET, algorithm="HS256"),
        jwt.encode(
            claims(), signer, algorithm="RS512"
        ),  # signed well, by an algorithm that is not listed
        f"{head}.{other.split('.')[1]}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        good[:-4],
        "x" * 9000,
        "..",
        "",
    ]
    for token in forged:
        why = refusal(tokens, ("authorization", f"Bearer {token}"))
        assert why in ("signature", "algorithm", "malformed"), token[:60]
    assert refusal(tokens, ("authorization", f"Basic {good}")) == "malformed"


def test_a_token_of_nested_lists_raises_nothing(tokens):
    import base64

    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=")
    assert refusal(tokens, ("authorization", b"Bearer " + deep + b".e30.AA")) == "malformed"


def test_a_public_key_is_no_secret(tmp_path, signer):
    """The old trick: HS256 with the public key's text as its secret."""
    pem = public(signer)
    (tmp_path / "issuer.pem").write_bytes(pem)
    with pytest.raises(InputError, match="one family"):
        Identifier(
            Identity(by=("jwt",), jwt=Jwt(key_file="issuer.pem", algorithms=("RS256", "HS256"))),
            tmp_path,
        )
    (tmp_path / "issuer.pem").chmod(0o600)
    with pytest.raises(InputError, match="Expected a key for HS256"):
        Identifier(
            Identity(by=("jwt",), jwt=Jwt(key_file="issuer.pem", algorithms=("HS256",))), tmp_path
        )
    with pytest.raises(ValidationError):
        Jwt(key_file="issuer.pem", algorithms=("none",))


@pytest.mark.parametrize(
    ("algorithm", "maker"),
    [
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_other_families_of_keys(tmp_path, algorithm, maker):
    private = maker()
    (tmp_path / "key.pem").write_bytes(public(private))
    found = Identifier(
        Identity(by=("jwt",), jwt=Jwt(key_file="key.pem", algorithms=(algorithm,))), tmp_path
    )
    assert (
        text(
            found,
            (
                "authorization",
                f"Bearer {jwt.encode({'sub': 'a', 'exp': FAR}, private, algorithm=algorithm)}",
            ),
        )
        == "jwt:a"
    )


def test_a_shared_secret_and_a_subject_by_another_name(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "secret").chmod(0o640)
    declared = Jwt(key_file="secret", algorithms=("HS256",), subject="client_id")
    found = Identifier(Identity(by=("jwt",), jwt=declared), tmp_path)
    token = jwt.encode({"client_id": "b", "sub": "a", "exp": FAR}, SECRET, algorithm="HS256")
    assert text(found, ("authorization", f"Bearer {token}")) == "jwt:b"


def test_a_secret_that_everybody_may_read_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o644)
    declared = Identity(by=("jwt",), jwt=Jwt(key_file="secret", algorithms=("HS256",)))
    with pytest.raises(InputError, match="chmod 640"):
        Identifier(declared, tmp_path)


@pytest.mark.parametrize(
    ("content", "algorithm", "sentence"),
    [
        (b"short", "HS256", "secret of at least 32 bytes"),
        (SECRET[:40], "HS512", "secret of at least 64 bytes"),
        (b"no key at all", "RS256", "Expected a key for RS256"),
        (None, "RS256", "Check key_file"),
        (b'{"keys": []}', "RS256", "Expected a key for RS256"),
        (b'{"keys": 3}', "RS256", "Expected a JSON Web Key Set"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "RS256", "Expected a key for RS256"),
    ],
)
def test_a_key_file_that_cannot_serve_is_refused_at_the_start(
    tmp_path, content, algorithm, sentence
):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match=sentence):
        Identifier(
            Identity(by=("jwt",), jwt=Jwt(key_file="key", algorithms=(algorithm,))), tmp_path
        )


def test_a_private_key_has_no_place_in_a_guard(tmp_path, signer):
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "key").write_bytes(signer.private_bytes(*form))
    with pytest.raises(InputError, match="got a private one"):
        Identifier(Identity(by=("jwt",), jwt=Jwt(key_file="key")), tmp_path)


def test_a_certificate_that_the_server_verified_proves_its_subject():
    found = Identifier(Identity(by=("mtls", "network")), Path("."))
    good = {
        "extensions": {
            "tls": {"client_cert_name": "CN=partner,O=Example", "client_cert_error": None}
        }
    }
    assert text(found, **good) == "mtls:CN=partner,O=Example"
    for tls in ({"client_cert_name": None}, {}):
        assert text(found, extensions={"tls": tls}) == f"network:{OUTSIDE}/32"
    odd = {"client_cert_name": "CN=a", "client_cert_error": "expired"}
    assert refusal(found, extensions={"tls": odd}) == "certificate"


def test_a_certificates_header_counts_from_listed_proxies_alone():
    found = Identifier(Identity(by=("mtls", "network"), trusted_proxies=("10.0.0.0/8",)), Path("."))
    header = ("X-SSL-Client-S-DN", "CN=partner")
    assert text(found, header, peer=PROXY) == "mtls:CN=partner"
    assert text(found, header) == f"network:{OUTSIDE}/32"
    assert refusal(found, header, header, peer=PROXY) == "repeated"
    for empty in ("", "(null)"):
        assert text(found, ("X-SSL-Client-S-DN", empty), peer=PROXY) == f"network:{PROXY}/32"
    for odd in ("CN=a\x00b", "CN=\u202e"):
        assert refusal(found, ("X-SSL-Client-S-DN", odd), peer=PROXY) == "certificate"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (["203.0.113.9"], "203.0.113.9/32"),
        (
            ["1.1.1.1, 203.0.113.9"],
            "203.0.113.9/32",
        ),  # what the client itself put in stands on the left
        (["1.1.1.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9/32"),
        (["1.1.1.1", "203.0.113.9, 10.9.9.9"], "203.0.113.9/32"),
        (["203.0.113.9:5555"], "203.0.113.9/32"),
        (["[2001:db8:1:2:3::4]:443"], "2001:db8:1:2::/64"),
        (["2001:db8:1:2:ffff::9"], "2001:db8:1:2::/64"),
        (["::ffff:203.0.113.9"], "203.0.113.9/32"),
        (["fe80::1%eth0"], "fe80::/64"),
        (["10.1.1.1, 10.2.2.2"], "10.1.1.1/32"),
        (["203.0.113.9, unknown, 10.2.2.2"], "10.2.2.2/32"),
        (["203.0.113.9, "], f"{PROXY}/32"),
        (["' OR 1=1"], f"{PROXY}/32"),
        ([""], f"{PROXY}/32"),
        ([], f"{PROXY}/32"),
        (["1.1.1.1, " * 5000 + "10.3.3.3"], "1.1.1.1/32"),
        (["10.3.3.3, " * 5000 + "10.3.3.4"], "10.3.3.3/32"),
        (["9" * 100_000], f"{PROXY}/32"),
    ],
)
def test_forwarded_addresses_are_read_from_the_right(headers, client):
    found = Identifier(Identity(trusted_proxies=("10.0.0.0/8",)), Path("."))
    assert (
        text(found, *(("X-Forwarded-For", value) for value in headers), peer=PROXY)
        == f"network:{client}"
    )
    assert (
        text(found, *(("X-Forwarded-For", value) for value in headers)) == f"network:{OUTSIDE}/32"
    )


def test_prefixes_pool_neighbours_and_mapped_addresses_are_what_they_map():
    found = Identifier(Identity(prefix_v4=24, prefix_v6=48), Path("."))
    assert (
        text(found, peer="192.0.2.7")
        == text(found, peer="::ffff:192.0.2.250")
        == "network:192.0.2.0/24"
    )
    assert text(found, peer="2001:db8:1:2::3") == "network:2001:db8:1::/48"
    assert text(found, peer="::1") == "network:::/48"


def test_a_unix_socket_is_a_proxy_only_if_it_is_listed():
    header = ("x-forwarded-for", "203.0.113.9")
    listed = Identifier(Identity(trusted_proxies=("unix",)), Path("."))
    for peer in (None, ""):
        assert text(Identifier(Identity(), Path(".")), header, peer=peer) == "network:unix"
        assert text(listed, header, peer=peer) == "network:203.0.113.9/32"
    assert text(listed, header, peer="testclient") == "network:unix", (
        "an address that is none is no socket"
    )


def test_what_is_required_and_not_proven_is_refused(keyed):
    strict = Identifier(keyed.identity.model_copy(update={"required": True}), Path("."))
    assert text(strict, ("x-api-key", "s3cret")) == "api_key:partner"
    for headers in ((), (("x-api-key", "guess"),)):
        with pytest.raises(RequestRefused) as refused:
            strict.client(scope(*headers))
        assert (
            refused.value.status == 401
            and dict(refused.value.headers)["www-authenticate"] == "ApiKey"
        )
        assert "guess" not in str(refused.value)
        assert isinstance(refused.value, CredentialRefused) is bool(headers)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (Identity(required=True), "got network alone"),
        (Identity(by=("network", "api_key"), keys=(key("a", "b"),)), "Expected network last"),
        (Identity(trusted_proxies=("10.0.0.0/33",)), "Expected a network such as"),
        (Identity(trusted_proxies=("proxy.internal",)), "Expected a network such as"),
        (
            Identity(by=("api_key",), keys=(key("a", "same"), key("b", "same"))),
            "Expected different keys",
        ),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(declared, sentence):
    with pytest.raises(InputError, match=sentence):
        Identifier(declared, Path("."))


NAMES = st.sampled_from(
    [
        "x-forwarded-for",
        "X-Forwarded-For",
        "forwarded",
        "x-real-ip",
        "x-ssl-client-s-dn",
        "x-api-key",
        "authorization",
        "via",
    ]
)
VALUES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"10.0.0.1",
            b"203.0.113.9",
            b"CN=partner",
            b"Bearer a.b.c",
            b"for=203.0.113.9",
            b"::1",
            b"10.0.0.1, 1.1.1.1",
        ]
    ),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(
    headers=HEADERS,
    peer=st.ip_addresses().filter(lambda found: found not in ipaddress.ip_network("10.0.0.0/8")),
)
def test_no_header_from_outside_changes_who_somebody_is(headers, peer):
    declared = Identity(
        by=("api_key", "mtls", "network"),
        keys=(key("partner", "s3cret"),),
        trusted_proxies=("10.0.0.0/8",),
    )
    found = Identifier(declared, Path("."))
    address = parse_address(str(peer).encode())
    if found.origins.trusts(address):  # a mapped address of the proxies' network
        return
    sent = any(name.lower() == "x-api-key" and value.strip() for name, value in headers)
    try:
        assert found.client(scope(*headers, peer=str(peer))) == found.client(scope(peer=str(peer)))
        assert not sent
    except CredentialRefused as refused:
        assert sent and refused.source == "api_key"


@given(headers=HEADERS, peer=st.one_of(st.just(PROXY), st.none(), st.text(max_size=20)))
def test_no_header_from_a_proxy_raises_or_proves_a_key(headers, peer):
    declared = Identity(
        by=("api_key", "network"),
        keys=(key("partner", "s3cret"),),
        trusted_proxies=("10.0.0.0/8", "unix"),
    )
    try:
        found = Identifier(declared, Path(".")).client(scope(*headers, peer=peer))
    except CredentialRefused as refused:
        assert refused.client.isprintable()
        return
    assert found.kind == "network" and not found.proven and found.text.isprintable()


@given(before=st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=10)), max_size=6))
def test_what_a_client_writes_before_its_proxys_entry_changes_nothing(before):
    found = Identifier(Identity(trusted_proxies=("10.0.0.0/8",)), Path("."))
    value = ", ".join([*before, "203.0.113.9"]).encode(errors="replace")
    assert text(found, ("x-forwarded-for", value), peer=PROXY) == "network:203.0.113.9/32"


def test_what_strangers_write_is_not_remembered_nor_what_is_long():
    identifier = Identifier(Identity(trusted_proxies=("10.0.0.0/8",)), Path("."))

    def asked(peer: str, *values: bytes) -> str:
        headers = [(b"x-forwarded-for", value) for value in values]
        return identifier.client({"client": (peer, 1), "headers": headers}).subject

    for k in range(50):
        assert asked("192.0.2.7", b"1.2.3.%d" % k) == "192.0.2.7/32"
        assert asked("10.0.0.1", *[b""] * 40, b"1.2.3.%d" % k) == f"1.2.3.{k}/32"
        assert asked("10.0.0.1", b"9.9.9.9, " * 10 + b"1.2.3.%d" % k) == f"1.2.3.{k}/32"
    assert identifier.origins._known.cache_info().currsize == 2
    assert (
        asked("10.0.0.1", b"1.2.3.4") == "1.2.3.4/32"
        and identifier.origins._known.cache_info().currsize == 3
    )
