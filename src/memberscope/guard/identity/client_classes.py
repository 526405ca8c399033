"""Find the class of a client and the output defence of the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from memberscope.guard.identity.client_identity import Client
from memberscope.guard.identity.forwarded import Network, parse_network
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.keyed_defence import build_keyed_defence
from memberscope.guard.policy.tables import ClientLimits
from memberscope.outputs import NONE, load_fitted, with_fitted
from memberscope.types import OutputDefence

DEFAULT = "default"
Holds = Callable[[Client], bool]


class Classes:
    """Classes of a policy in its order, with their output defences.

    `network:` entries hold for every client whose address is inside, whatever else it proves.

    >>> import ipaddress
    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> table = {"serving": {"n_classes": 3}, "clients": [{"name": "staff", "who": ["network:10.0.0.0/8"], "restrict": "top:1"}]}
    >>> classes = Classes(parse_guard_policy(table))
    >>> inside = Client("network", "10.0.0.1/32", False, ipaddress.ip_address("10.0.0.1"))
    >>> classes.of(inside)[0], classes.defence("staff"), classes.defence("default")
    ('staff', TopK(k=1), None)
    """

    def __init__(self, policy: GuardPolicy) -> None:
        """Build what the policy names.

        Raises:
            InputError: A network is none, a defence draws noise and the policy names no key, or a
                defence must be fitted and the policy's file does not hold it for these classes.
        """
        self.allowed: dict[str, ClientLimits] = {entry.name: entry for entry in policy.clients} | {
            DEFAULT: policy.default
        }
        self.rules = [
            (entry.name, [_parse_client_rule(text) for text in entry.who])
            for entry in policy.clients
        ]
        names = {name: allowed.restrict for name, allowed in self.allowed.items()}
        parts = load_fitted(policy.path(policy.fitted)) if policy.fitted else {}
        serving = policy.serving
        # What was fitted to another number of classes is refused
        n_classes = len(serving.classes) if serving.classes else serving.n_classes
        self.defences = {
            name: _build_output_defence(policy, restrict, parts, n_classes)
            for name, restrict in names.items()
        }
        self.coarsened = _build_output_defence(policy, policy.respond.coarsen, parts, n_classes)

    def of(self, client: Client) -> tuple[str, ClientLimits]:
        """Find the first class of a client, else `default`, with its limits."""
        # The order of the policy decides where a client belongs to several classes
        for name, rules in self.rules:
            if any(holds(client) for holds in rules):
                return name, self.allowed[name]
        return DEFAULT, self.allowed[DEFAULT]

    def defence(self, name: str) -> OutputDefence | None:
        """Give the defence of the class `name`; None where answers pass as they are."""
        return self.defences[name]


def _build_output_defence(
    policy: GuardPolicy, restrict: str, parts: Mapping[str, OutputDefence], n_classes: int | None
) -> OutputDefence | None:
    """Build the output defence `restrict`, with fitted parts from `parts` and the guard's key.

    Raises:
        InputError: A part must be fitted and is not there, or is fitted to another number of
            classes, or draws noise and the policy names no key.
    """
    if restrict == NONE:
        return None
    return with_fitted(build_keyed_defence(policy, restrict), parts, n_classes)


def _parse_client_rule(text: str) -> Holds:
    """Build the test whether a client is one of `who`.

    `who` is `kind:subject`, where the subject may end with `*`, or `network:` and a CIDR.

    Raises:
        InputError: A network is none.

    >>> _parse_client_rule("jwt:team-*")(Client("jwt", "team-a", True)), _parse_client_rule("jwt:team-*")(Client("api_key", "team-a", True))
    (True, False)
    """
    kind, _, wanted = text.partition(":")
    if kind == "network":
        network = parse_network(wanted)
        # Whatever else the client proves
        return lambda client: _is_in_network(client, network)
    if wanted.endswith("*"):
        return lambda client: client.kind == kind and client.subject.startswith(wanted[:-1])
    return lambda client: client.kind == kind and client.subject == wanted


def _is_in_network(client: Client, network: Network) -> bool:
    """Tell whether a client's address is in a network."""
    return client.address is not None and client.address in network
