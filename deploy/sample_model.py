"""Serve a small model, to have something behind the guard: POST /score, GET /health."""

from __future__ import annotations

import uvicorn
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
MODEL = RandomForestClassifier(20, random_state=0).fit(*load_iris(return_X_y=True))


async def score(request: Request) -> JSONResponse:
    """Give the probability of each kind for each of `records`, lists or objects of four numbers."""
    records = (await request.json())["records"]
    rows = [
        [record[name] for name in COLUMNS] if isinstance(record, dict) else record
        for record in records
    ]
    return JSONResponse({"predictions": MODEL.predict_proba(rows).tolist()})


async def health(request: Request) -> JSONResponse:
    """Say that the server is up."""
    return JSONResponse({"up": True})


app = Starlette(routes=[Route("/score", score, methods=["POST"]), Route("/health", health)])

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning")
