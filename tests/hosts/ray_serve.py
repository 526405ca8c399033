"""The documented Ray Serve application on the loopback interface until it is interrupted.

`python ray_serve.py PORT`, with tests/clusters and the application's folder on PYTHONPATH.
"""

import os
import signal
import sys
from tempfile import gettempdir
from typing import Any


def main(port: str) -> None:
    """Under a path of its own, as where several applications share a cluster."""
    # On PYTHONPATH of this program alone, not where tests are collected
    from here import HERE, keep

    keep()
    os.environ["PYTHONPATH"] = os.getcwd()  # where its processes find the application
    import ray
    from app import served
    from ray import serve

    begin_ray(ray, HERE)
    serve.start(http_options={"host": HERE, "port": int(port)})
    try:
        serve.run(served, route_prefix="/churn")
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()


def begin_ray(ray: Any, address: str) -> None:
    """Start Ray at an address, again if need be.

    It gives its node 30 seconds, which a busy machine's first start exceeds.
    """
    small = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    for attempt in range(3):
        try:
            ray.init(**small, _node_ip_address=address, _temp_dir=gettempdir())
            return
        except Exception as error:
            if attempt == 2 or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
