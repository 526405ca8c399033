"""The same model on the same records gives the same verdict and estimates from a data frame and from every format of file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import memberscope
from memberscope.cli.options.layout import build_table_layout
from memberscope.cli.options.table import Options
from memberscope.targets import build_pair, read_class_names, read_tables, resolve_n_classes, wrap

N = 200
FORMATS = ("csv", "csv.gz", "parquet", "feather", "jsonl")
PLAN = memberscope.Plan(attacks=("gap", "loss"), policy=None)


def make_frame() -> pandas.DataFrame:
    """Records with everything that a format can lose.

    Gaps, words that look like numbers, truth values, dates, categories.
    """
    rng = np.random.default_rng(0)
    n = 2 * N
    frame = pandas.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "pressure": rng.normal(120, 15, n),
            "ward": rng.choice(["A", "B", "C"], n).astype(object),
            "code": rng.choice(["007", "12", "x1"], n).astype(object),
            "smoker": rng.random(n) < 0.3,
            "seen": pandas.Timestamp("2024-01-01")
            + pandas.to_timedelta(rng.integers(0, 400, n), unit="D"),
            "stage": pandas.Categorical(
                rng.choice(["I", "II", "III"], n), categories=["III", "II", "I"]
            ),
        }
    )
    for name, step in (("pressure", 11), ("ward", 5), ("seen", 17), ("stage", 7)):
        frame.loc[::step, name] = None
    return frame


FRAME = make_frame()
Y = np.where(
    FRAME["age"] + 15 * FRAME["ward"].isna() + np.random.default_rng(1).normal(0, 20, 2 * N) > 55,
    "sick",
    "well",
)
NUMBERS, WORDS, CATEGORIES = ["age", "pressure", "smoker"], ["ward", "code"], ["stage"]


def days(frame: Any) -> Any:
    return frame.apply(lambda column: (column - pandas.Timestamp("2024-01-01")).dt.days).fillna(-1)


def in_pipeline(last: Any) -> tuple[Any, list[str]]:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

    encoder = make_column_transformer(
        (make_pipeline(SimpleImputer()), NUMBERS),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), [*WORDS, *CATEGORIES]),
        (FunctionTransformer(days), ["seen"]),
    )
    return make_pipeline(encoder, last), [*NUMBERS, *WORDS, *CATEGORIES, "seen"]


def forest() -> tuple[Any, list[str]]:
    from sklearn.ensemble import RandomForestClassifier

    return in_pipeline(RandomForestClassifier(20, random_state=0))


def histogram() -> tuple[Any, list[str]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=20, categorical_features="from_dtype", random_state=0
    )
    return model, [*NUMBERS, *CATEGORIES]


def regression() -> tuple[Any, list[str]]:
    from sklearn.linear_model import LogisticRegression

    return in_pipeline(LogisticRegression(max_iter=2000))


def lightgbm_model() -> tuple[Any, list[str]]:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=20, min_child_samples=2, verbose=-1, n_jobs=1), [
        *NUMBERS,
        *CATEGORIES,
    ]


def xgboost_model() -> tuple[Any, list[str]]:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=20, enable_categorical=True, n_jobs=1), [
        *NUMBERS,
        *CATEGORIES,
    ]


def catboost_model() -> tuple[Any, list[str]]:
    from catboost import CatBoostClassifier

    settings = {"iterations": 20, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return CatBoostClassifier(cat_features=["code"], **settings), [*NUMBERS, "code"]


def perceptron() -> tuple[Any, list[str]]:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))
            self.scale = nn.Parameter(torch.tensor([50.0, 100.0, 1.0]), requires_grad=False)

        def forward(self, x: Any) -> Any:
            return self.layers(torch.nan_to_num(x / self.scale))

        def fit(self, frame: Any, y: Any) -> Any:
            torch.manual_seed(0)
            x = torch.tensor(frame.to_numpy(dtype=np.float32))
            labels = torch.tensor((np.asarray(y) == "well").astype(int))
            optimiser = torch.optim.Adam(self.layers.parameters(), 1e-2)
            for _ in range(100):
                optimiser.zero_grad()
                nn.functional.cross_entropy(self(x), labels).backward()
                optimiser.step()
            return self.eval()

    return Net(), NUMBERS


def onnx_model() -> tuple[Any, list[str]]:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    class Exported:
        def fit(self, frame: Any, y: Any) -> Any:
            import onnxruntime
            from skl2onnx import convert_sklearn
            from skl2onnx.common.data_types import FloatTensorType, StringTensorType

            encoder = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["code"]), remainder="passthrough"
            )
            model = make_pipeline(encoder, RandomForestClassifier(20, random_state=0)).fit(frame, y)
            kinds = [
                (name, (StringTensorType if name == "code" else FloatTensorType)([None, 1]))
                for name in frame.columns
            ]
            content = convert_sklearn(
                model, initial_types=kinds, options={"zipmap": False}
            ).SerializeToString()
            return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    return Exported(), ["age", "code"]


KINDS = [
    forest,
    histogram,
    regression,
    lightgbm_model,
    xgboost_model,
    catboost_model,
    perceptron,
    onnx_model,
]


def write(frame: pandas.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".feather":
        frame.reset_index(drop=True).to_feather(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, date_format="iso", double_precision=15)
    else:
        frame.to_csv(path, index=False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_format_gives_the_verdict_of_the_frame(tmp_path, kind):
    model, columns = kind()
    frame = FRAME[columns]
    y = (Y == "well").astype(int) if kind is xgboost_model else Y
    model = model.fit(frame[:N], y[:N])
    codes = (Y == "well").astype(int) if kind in (perceptron, onnx_model, xgboost_model) else Y
    expected = memberscope.audit(
        wrap(model), (frame[:N], codes[:N]), (frame[N:], codes[N:]), plan=PLAN, policy="demo"
    )
    for suffix in FORMATS:
        for name, rows in (("train", slice(0, N)), ("holdout", slice(N, 2 * N))):
            write(frame[rows].assign(outcome=y[rows]), tmp_path / f"{name}.{suffix}")
        target = wrap(model)
        options = Options(label="outcome")
        layout = build_table_layout(options, target)
        read = read_tables(tmp_path / f"train.{suffix}", tmp_path / f"holdout.{suffix}", layout)
        inside, outside, names = build_pair(read, layout, read_class_names(target))
        found = memberscope.audit(
            resolve_n_classes(target, inside.x, len(names)),
            inside,
            outside,
            plan=PLAN,
            policy="demo",
        )
        assert found.verdict == expected.verdict, suffix
        for a, b in zip(expected.estimates, found.estimates, strict=True):
            assert (a.attack, a.metric, a.group) == (b.attack, b.metric, b.group)
            assert a.value == pytest.approx(b.value, abs=1e-9), (
                suffix,
                a.attack,
                a.metric,
                a.group,
            )
        assert expected.diagnostics.train_accuracy.value == found.diagnostics.train_accuracy.value


def test_the_page_of_inputs_lists_the_tests():
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "write_inputs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-300:]
