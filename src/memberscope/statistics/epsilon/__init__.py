"""Lower bounds on the epsilon of differential privacy, from one run with canaries or from many runs."""
