"""The real data sets as arrays.

Their folder is named by MEMBERSCOPE_DATA (../shared/data by default).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("MEMBERSCOPE_DATA", "../shared/data"))


def location30() -> tuple[np.ndarray, np.ndarray]:
    """Location-30: 5,010 records of 446 bits, 30 classes."""
    with np.load(FOLDER / "location30.npz") as stored:
        return stored["X"].astype(np.float32), stored["y"]


def fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST: the 60,000 training images scaled to [0, 1], as (n, 1, 28, 28)."""
    with np.load(FOLDER / "fashion_mnist.npz") as stored:
        return stored["X_train"].astype(np.float32)[:, None] / 255, stored["y_train"].astype(
            np.int64
        )


def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST: 60,000 training images scaled to [0, 1], as (n, 1, 28, 28), their labels.

    And 10,000 for testing with theirs.
    """
    with np.load(FOLDER / "mnist.npz") as stored:
        images = [
            stored[f"X_{part}"].astype(np.float32)[:, None] / 255 for part in ("train", "test")
        ]
        return (
            images[0],
            stored["y_train"].astype(np.int64),
            images[1],
            stored["y_test"].astype(np.int64),
        )


def cifar10(n: int) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10 (JPEG quality 75).

    `n` training images drawn at random, scaled to [0, 1], as (n, 3, 32, 32).
    """
    return decoded("train", np.random.default_rng(0).permutation(50_000)[:n])


def cifar10_test() -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 test images of CIFAR-10 in the same form."""
    return decoded("test", np.arange(10_000))


def decoded(part: str, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picked images of a part of CIFAR-10, and their labels."""
    from PIL import Image

    with np.load(FOLDER / "cifar10_jpeg.npz") as stored:
        data, offsets, labels = (stored[f"{part}_{name}"] for name in ("jpeg", "offsets", "labels"))
    raw = data.tobytes()
    images = [
        np.asarray(Image.open(io.BytesIO(raw[offsets[i] : offsets[i + 1]])).convert("RGB"))
        for i in pick
    ]
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255, labels[pick].astype(
        np.int64
    )


def adult() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Adult: 48,842 records of 14 features, words as codes; labels; and sex and race as groups."""
    with gzip.open(FOLDER / "adult.csv.gz", "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = [name for name in rows[0] if name not in ("income", "split")]
    columns = []
    for name in names:
        values = np.array([row[name] for row in rows])
        numeric = all(value.lstrip("-").isdigit() for value in values)
        columns.append(
            values.astype(float)
            if numeric
            else np.unique(values, return_inverse=True)[1].astype(float)
        )
    groups = {name: np.array([row[name] for row in rows]) for name in ("sex", "race")}
    return (
        np.column_stack(columns),
        np.array([row["income"] == ">50K" for row in rows]).astype(int),
        groups,
    )


def texts(source: str) -> list[str]:
    """The 1,000 documents of `wikipedia` or `stackexchange`."""
    with gzip.open(FOLDER / f"text_{source}.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in stream]
