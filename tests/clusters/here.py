"""Keep Ray to the loopback interface, which it has no option for.

`python here.py PORT FOLDER`, or `keep()` in a driver.
"""

import sys

HERE = "127.0.0.1"


def keep() -> None:
    """Let Ray find no other address of this machine."""
    from ray._private import services

    services.get_node_ip_address = lambda *_, **__: HERE


def head(port: str, folder: str) -> None:
    """Start a node of two cores that says it has two GPUs, until it is killed."""
    from ray.scripts.scripts import cli

    keep()
    few = (
        "--num-cpus",
        "2",
        "--num-gpus",
        "2",
        "--object-store-memory",
        "100000000",
        "--min-worker-port",
        "0",
        "--max-worker-port",
        "0",
    )
    quiet = ("--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", folder)
    cli(["start", "--head", "--block", "--node-ip-address", HERE, "--port", port, *few, *quiet])


if __name__ == "__main__":
    head(*sys.argv[1:])
