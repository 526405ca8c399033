"""A guard serves what its `[measured]` says, at the start, at reload and embedded.

Or says that it does not.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys

import pytest
from guarded import ROWS
from running_guard import POLICY, START, ask, running
from unruly import Unruly, model, serving

from memberscope.errors import InputError
from memberscope.guard import GuardMiddleware
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.policy.measured_level import (
    find_looser_classes,
    log_measured,
    require_measured,
)

MEASURED = {
    "result": "00",
    "level": "top:1",
    "fpr": 0.01,
    "limit": 0.03,
    "upper": 0.02,
    "attack": "lira",
    "confidence": 0.95,
}
LEVEL = '\n[measured]\nresult = "00"\nlevel = "{}"\nfpr = 0.01\nlimit = 0.03\nupper = 0.02\nattack = "lira"\nconfidence = 0.95\n'


def policy(
    level: str = "top:1",
    *,
    outputs: str | None = None,
    serves: str = "probabilities",
    clients=(),
    **default: str,
):
    measured = MEASURED | {"level": level} | ({} if outputs is None else {"outputs": outputs})
    return parse_guard_policy(
        {
            "serving": {"n_classes": 5, "outputs": serves},
            "measured": measured,
            "default": default,
            "clients": list(clients),
        }
    )


@pytest.mark.parametrize(
    ("level", "restrict", "looser"),
    [
        ("label", "none", True),
        ("label", "top:1", True),
        ("label", "label", False),
        ("top:1", "top:3", True),
        ("top:1", "none", True),
        ("top:1", "top:1+round:1", False),
        ("top:3", "top:1", False),
        ("top:3", "round:2", True),
        ("round:2", "round:3", True),
        ("round:2", "label", False),
        ("memguard:1", "round:2", True),
        ("memguard:1", "memguard:1+round:2", False),
        ("none", "none", False),
        ("none", "top:3", False),
    ],
)
def test_what_does_not_follow_from_the_measured_level_is_looser(level, restrict, looser):
    assert find_looser_classes(policy(level, restrict=restrict)) == (["default"] if looser else [])


def test_every_class_of_clients_is_looked_at_and_outputs_too():
    staff = {"name": "staff", "who": ["network:10.0.0.0/8"], "restrict": "top:3"}
    assert find_looser_classes(policy(restrict="label", clients=[staff])) == ["staff"]
    with pytest.raises(
        InputError, match=r"got restrict = 'top:3' for staff\. Change restrict, or audit it"
    ):
        require_measured(policy(restrict="label", clients=[staff]))
    assert find_looser_classes(
        policy("none", outputs="probabilities", serves="logits", restrict="none")
    ) == ["default"]
    assert (
        find_looser_classes(policy("none", outputs="logits", serves="logits", restrict="none"))
        == []
    )
    assert (
        find_looser_classes(
            policy("none", outputs="probabilities", serves="logits", restrict="top:1")
        )
        == []
    )
    assert find_looser_classes(policy("none", outputs="labels", restrict="none")) == ["default"]
    assert find_looser_classes(policy("label", serves="labels", restrict="none")) == []


def test_an_embedded_guard_refuses_too_or_logs_where_told_to(caplog):
    with pytest.raises(
        InputError,
        match="Expected answers that follow from label as \\[measured\\] says, got restrict = 'none'",
    ):
        GuardMiddleware(None, policy=policy("label"))
    logging.getLogger("memberscope.guard").propagate = True
    with caplog.at_level(logging.INFO, "memberscope.guard"):
        GuardMiddleware(None, policy=policy("label"), allow_looser=True)
        log_measured(parse_guard_policy({"serving": {"n_classes": 3}}))
        log_measured(
            policy("label", restrict="label").model_copy(
                update={"guard": parse_guard_policy(OBSERVE).guard}
            )
        )
    assert [record.getMessage() for record in caplog.records] == [
        "looser_than_measured",
        "not_measured",
        "not_enforced",
    ]


OBSERVE = {"serving": {"n_classes": 3}, "guard": {"mode": "observe"}}


def test_a_looser_policy_does_not_start(tmp_path):
    (tmp_path / "guard.toml").write_text(POLICY.replace("RESTRICT", "none") + LEVEL.format("label"))
    command = [
        sys.executable,
        "-c",
        START,
        "--upstream",
        "http://127.0.0.1:9",
        "--policy",
        str(tmp_path / "guard.toml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0 and "Expected answers that follow from label" in done.stderr


def test_a_looser_policy_changes_nothing_at_reload_unless_allowed(tmp_path):
    labels = {"predictions": model(json.loads(json.dumps(ROWS["records"]))).argmax(axis=1).tolist()}
    file = tmp_path / "guard.toml"
    file.write_text(POLICY.replace("RESTRICT", "label") + LEVEL.format("label"))
    loose = POLICY.replace("RESTRICT", "none") + LEVEL.format("label")
    with serving(Unruly()) as upstream:
        with running(tmp_path, upstream) as (guard, _):
            ports = guard.said("serving")
            file.write_text(loose)
            guard.process.send_signal(signal.SIGHUP)
            assert "follow from label" in guard.said("reload_failed")["said"]
            assert ask(ports["admin_port"], "POST", "/reload")[0] == 409
            assert json.loads(ask(ports["port"], "POST", "/score", ROWS)[1]) == labels
        with running(tmp_path, upstream, "--allow-looser") as (guard, _):
            assert guard.said("looser_than_measured")["measured"] == "label"
            port = guard.said("serving")["port"]
            assert json.loads(ask(port, "POST", "/score", ROWS)[1]) != labels
