"""Guard a model as ASGI middleware and as a proxy: routes, bodies, refusals, streaming."""
