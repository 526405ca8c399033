"""Classes of clients: the first that holds, and the defence in front of each."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import create_key_file, read_secrets
from memberscope.guard.identity.client_classes import Classes
from memberscope.guard.identity.client_identity import Client
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.outputs.fitted_file import save_fitted
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.rounding import Rounding
from memberscope.outputs.top_k import TopK


def policy(*clients: dict, **more: object):
    return parse_guard_policy({"serving": {"n_classes": 3}, "clients": list(clients), **more})


def client(kind: str, subject: str, address: str | None = None) -> Client:
    return Client(
        kind, subject, kind != "network", None if address is None else ipaddress.ip_address(address)
    )


def answers(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(3, 0.4), n)


def test_the_first_class_that_holds_is_taken_and_default_else():
    classes = Classes(
        policy(
            {
                "name": "partner",
                "who": ["api_key:partner-*", "mtls:CN=p"],
                "restrict": "none",
                "per_client": "5/d",
            },
            {"name": "one", "who": ["api_key:partner-1"], "restrict": "round:2"},
            {
                "name": "inside",
                "who": ["network:10.0.0.0/8", "network:2001:db8::/32"],
                "restrict": "top:1",
            },
            default={"restrict": "label", "per_client": "1/d"},
        )
    )
    found = {
        "partner": [client("api_key", "partner-1", "10.1.1.1"), client("mtls", "CN=p")],
        "inside": [
            client("network", "10.1.1.1/32", "10.1.1.1"),
            client("jwt", "partner-1", "2001:db8::1"),
        ],
        "default": [
            client("jwt", "partner-1"),
            client("api_key", "partne"),
            client("mtls", "CN=p*"),
            client("network", "192.0.2.1/32", "192.0.2.1"),
            client("network", "unix"),
        ],
    }
    for name, clients in found.items():
        assert [classes.of(one)[0] for one in clients] == [name] * len(clients)
    assert (
        classes.of(found["partner"][0])[1].per_client.n == 5
        and classes.of(found["default"][0])[1].restrict == "label"
    )


def test_each_class_has_its_defence():
    classes = Classes(
        policy(
            {"name": "a", "who": ["jwt:*"], "restrict": "top:2+round:1"},
            default={"restrict": "none"},
        )
    )
    assert (
        classes.defence("a").parts == (TopK(2), Rounding(1)) and classes.defence("default") is None
    )
    assert classes.coarsened.name == "label"
    with pytest.raises(KeyError):
        classes.defence("b")


def test_fitted_parts_come_from_the_policys_file(tmp_path):
    outputs = answers(120)
    create_key_file(tmp_path / "guard.key")
    key = read_secrets(tmp_path / "guard.key")[0].derive_noise_key()
    guard = MemGuard(1.0, key=key).fit(outputs, outputs.max(axis=1) > 0.8)
    save_fitted([guard], tmp_path / "fitted.safetensors")
    table = {
        "home": str(tmp_path),
        "fitted": "fitted.safetensors",
        "monitor": {"key": "guard.key"},
        "default": {"restrict": "memguard:1+round:3"},
    }
    classes = Classes(policy({"name": "raw", "who": ["jwt:*"], "restrict": "memguard:1"}, **table))
    assert classes.defence("raw").digest == guard.digest
    asked = answers(50, 1)
    assert np.array_equal(classes.defence("raw")(asked), guard(asked))
    assert np.array_equal(classes.defence("default")(asked), Rounding(3)(guard(asked)))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"fitted": None}, "Expected a fitted memguard:1, got none"),
        ({"default": {"restrict": "memguard:2"}}, "Expected a fitted memguard:2, got memguard:1"),
        ({"default": {"restrict": "temperature:2+memguard:1"}}, "Expected a fitted temperature:2"),
        ({"serving": {"n_classes": 4}}, "fitted to 4 classes, got 3"),
        ({"fitted": "absent"}, "Expected a file of fitted defences"),
        ({"monitor": {}}, r"Expected key in \[monitor\] for memguard:1, got none"),
        ({"monitor": {"key": "absent"}}, "Expected a key file"),
        ({"respond": {"coarsen": "memguard:3"}}, "Expected a fitted memguard:3"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(tmp_path, changed, sentence):
    outputs = answers(100)
    save_fitted([MemGuard(1.0).fit(outputs, outputs[:, 0] > 0.3)], tmp_path / "f")
    create_key_file(tmp_path / "guard.key")
    table = {
        "serving": {"n_classes": 3},
        "home": str(tmp_path),
        "fitted": "f",
        "monitor": {"key": "guard.key"},
        "default": {"restrict": "memguard:1"},
    }
    Classes(parse_guard_policy(table))
    with pytest.raises(InputError, match=sentence):
        Classes(parse_guard_policy(table | changed))


@pytest.mark.parametrize("who", ["network:10.*", "network:*", "network:10.0.0.1/8"])
def test_a_network_that_is_none_is_refused(who):
    with pytest.raises(InputError, match="Expected a network such as"):
        Classes(policy({"name": "a", "who": [who]}))
