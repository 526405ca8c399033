"""The guard as ASGI middleware and proxy: routes, bodies, streaming."""
