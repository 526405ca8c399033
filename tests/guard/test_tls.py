"""`memberscope guard run` with TLS.

Who has a certificate of --client-ca is known by it, with several workers too, and over IPv6.
"""

from __future__ import annotations

import http.client
import json
import signal
import ssl
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from guarded import ROWS
from running_guard import POLICY, ask, frozen, running
from unruly import Unruly, model, serving

X = np.array(ROWS["records"])
WHOLE = {"predictions": model(X).tolist()}
LABELS = {"predictions": model(X).argmax(axis=1).tolist()}
PARTNERS = """
[identity]
by = ["mtls"]
required = {required}
[[clients]]
name = "partners"
who = ["mtls:CN=partner,O=Lab*"]
per_client = "20/d"
"""


@pytest.fixture
def ours(tmp_path):
    return Authority(tmp_path, "ours")


def tls(ours: Authority) -> tuple[str, ...]:
    """Options of a guard that speaks TLS and knows clients by certificates of the same authority."""
    certificate, key = ours.sign("server")
    return "--tls-cert", str(certificate), "--tls-key", str(key), "--client-ca", str(ours.pem)


def policy(folder: Path, required: bool = False, more: str = "") -> None:
    tables = PARTNERS.format(required=str(required).lower())
    (folder / "guard.toml").write_text(POLICY.replace("RESTRICT", "label") + tables + more)


def score(
    port: int, context: ssl.SSLContext | None, host: str = "127.0.0.1", **headers: str
) -> tuple[int, object]:
    status, text = ask(port, "POST", "/score", ROWS, context, host, **headers)
    return status, json.loads(text)


@pytest.mark.parametrize("required", [False, True])
def test_who_has_no_certificate_is_a_network_or_refused(tmp_path, ours, required):
    policy(tmp_path, required)
    partner, other = ours.sign("partner", "Lab, Inc"), ours.sign("another", "Lab, Inc")
    with serving(Unruly()) as upstream, running(tmp_path, upstream, *tls(ours)) as (guard, _):
        port = guard.said("serving")["port"]
        assert score(port, ours.trusting(partner)) == (200, WHOLE)
        assert score(port, ours.trusting(other)) == (200, LABELS), "proven, but in no class"
        for headers in ({}, {"x_ssl_client_s_dn": "CN=partner,O=Lab"}):
            status, answer = score(port, ours.trusting(), **headers)
            assert status == (401 if required else 200) and (answer == LABELS) is not required
        with pytest.raises((OSError, http.client.HTTPException)):
            score(port, None)  # no TLS at all


def test_a_certificate_of_another_authority_or_out_of_date_ends_the_connection(tmp_path, ours):
    policy(tmp_path)
    late = ours.sign("partner", "Lab, Inc", days=-1)
    (folder := tmp_path / "theirs").mkdir()
    strange = Authority(folder, "ours").sign("partner", "Lab, Inc")
    app = Unruly()
    with serving(app) as upstream, running(tmp_path, upstream, *tls(ours)) as (guard, _):
        port = guard.said("serving")["port"]
        for files in (late, strange):
            with pytest.raises(OSError):  # as an error of TLS is, too
                score(port, ours.trusting(files))
        assert app.requests == 0
        assert score(port, ours.trusting()) == (200, LABELS)


def test_each_worker_knows_a_certificate_and_both_keep_one_budget(tmp_path, ours, redis_here):
    policy(tmp_path, more=f'[state]\nredis = "{redis_here.url}"\nprefix = "tls"\ntimeout = 5.0\n')
    partner = ours.trusting(ours.sign("partner", "Lab, Inc"))
    with (
        serving(Unruly()) as upstream,
        running(tmp_path, upstream, *tls(ours), "--workers", "2") as (guard, _),
    ):
        first, second = (guard.said("serving") for _ in range(2))
        for one, n in ((first, 6), (second, 4)):
            with frozen(one["process"]):  # so that the other one answers
                assert [score(first["port"], partner) for _ in range(n)] == [(200, WHOLE)] * n
        for one in (first, second):
            with frozen(one["process"]):
                assert score(first["port"], partner)[0] == 429
                assert score(first["port"], ours.trusting()) == (200, LABELS)
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(30) == 0


def test_an_ipv6_client_counts_by_its_prefix(tmp_path, ours):
    budget = 'per_client = "2/d"\n'
    (tmp_path / "guard.toml").write_text(
        POLICY.replace("RESTRICT", "label")
        + budget
        + '[identity]\ntrusted_proxies = ["::1"]\nprefix_v6 = 56\n'
        '[[clients]]\nname = "here"\nwho = ["network:::/64"]\nrestrict = "none"\n'
    )
    with (
        serving(Unruly()) as upstream,
        running(tmp_path, upstream, *tls(ours), "--host", "::1") as (guard, _),
    ):
        port, context = guard.said("serving")["port"], ours.trusting()
        assert score(port, context, "::1") == (200, WHOLE), "::1 is in ::/64"
        for address, status in (
            ("2001:db8:0:100::1", 200),
            ("2001:db8:0:1ff::2", 429),  # the same 56 bits
            ("2001:db8:0:200::1", 200),
            ("[2001:db8:0:2aa::5]:443", 429),
        ):
            got = score(port, context, "::1", x_forwarded_for=address)
            assert got[0] == status and (status == 429 or got[1] == LABELS), address
        with pytest.raises(OSError):
            ask(port, "GET", "/")  # nobody listens at the other family's address
