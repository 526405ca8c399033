"""The documented Ray Serve application on the loopback interface until it is interrupted: `python ray_serve.py PORT`."""

import os
import signal
import sys
from pathlib import Path
from tempfile import gettempdir

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clusters"))
sys.path.insert(0, ".")

from here import HERE, keep


def main(port: str) -> None:
    """Under a path of its own, as where several applications share a cluster."""
    keep()
    os.environ["PYTHONPATH"] = os.getcwd()  # where its processes find the application
    import ray
    from app import served
    from ray import serve

    small = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    ray.init(**small, _node_ip_address=HERE, _temp_dir=gettempdir())
    serve.start(http_options={"host": HERE, "port": int(port)})
    try:
        serve.run(served, route_prefix="/churn")
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
