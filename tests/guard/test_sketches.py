"""What is remembered of records.

Near ones stay near, equal ones equal however they were written, and files are checked.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import Secret, read_secrets, write_secrets
from memberscope.guard.sketching.fingerprints import (
    Fingerprints,
    read_fingerprints,
    write_fingerprints,
)
from memberscope.guard.sketching.sketcher import Sketcher, read_sketcher, write_sketcher
from memberscope.statistics import clopper_pearson
from memberscope.wire.batch import Batch, build_request_batch

SECRET, OTHER = Secret("k", bytes(range(32))), Secret("o", bytes(32))
MIXED = {"age": [30.0, 40.0, np.nan], "job": ["cook", "smith", None], "pay": [1, 2, 3]}


def objects(rows) -> np.ndarray:
    found = np.empty(len(rows), dtype=object)
    found[:] = rows
    return found


def smooth(n: int, side: int = 28) -> np.ndarray:
    """Images (n, side, side) whose low frequencies are strong, as those of photographs are."""
    rng = np.random.default_rng(5)
    across, down = np.fft.fftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    waves = np.fft.fft2(rng.normal(size=(n, side, side))) / (0.05 + np.hypot(across, down)) ** 2
    found = np.fft.ifft2(waves).real
    found -= found.min(axis=(1, 2), keepdims=True)
    return found / found.max(axis=(1, 2), keepdims=True)


def away(sketcher: Sketcher, first, second) -> np.ndarray:
    one, two = (
        sketcher.sketch(x if isinstance(x, Batch) else Batch(x))[1] for x in (first, second)
    )
    return np.linalg.norm(one - two, axis=1)


def mixed(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({f"x{j}": rng.gamma(2.0, 10.0**j, n) for j in range(6)})
    frame["job"] = rng.choice(["cook", "smith", "clerk", "nurse", "judge"], n).astype(object)
    frame["city"] = rng.choice([f"city{i}" for i in range(40)], n).astype(object)
    return frame


def test_tables_keep_near_records_near_and_others_far():
    frame = mixed(3000)
    sketcher = Sketcher.fit("tabular", build_request_batch(frame[:2000]), SECRET)
    asked, jolted = frame[2000:].reset_index(drop=True), frame[2000:].reset_index(drop=True).copy()
    for j in range(6):
        jolted[f"x{j}"] *= 1.003
    shuffled = asked.sample(frac=1, random_state=0)
    assert (
        np.quantile(away(sketcher, build_request_batch(asked), build_request_batch(jolted)), 0.95)
        < sketcher.radius
    )
    assert (
        away(sketcher, build_request_batch(asked), build_request_batch(shuffled)) < sketcher.radius
    ).mean() < 0.02
    jolted["job"] = np.where(asked["job"] == "cook", "smith", "cook")
    assert (
        away(sketcher, build_request_batch(asked), build_request_batch(jolted)) > sketcher.radius
    ).mean() > 0.95


def test_a_missing_value_moves_a_record_by_one_column_at_most():
    x = np.random.default_rng(1).normal(size=(1000, 40))
    sketcher = Sketcher.fit("tabular", Batch(x), SECRET)
    holes = x.copy()
    holes[:, 3] = np.nan
    assert np.isfinite(sketcher.sketch(Batch(holes))[1]).all()
    assert np.median(away(sketcher, x, holes)) < 0.3 < np.median(away(sketcher, x[:500], x[500:]))


@pytest.mark.parametrize("layout", ["hw", "hwc", "chw"])
def test_images_are_the_same_mirrored_and_near_when_shifted_or_noisy(layout):
    plain = smooth(1200)
    x = {"hw": plain, "hwc": np.stack([plain] * 3, axis=3), "chw": np.stack([plain] * 3, axis=1)}[
        layout
    ]
    across = {"hw": 2, "hwc": 2, "chw": 3}[layout]
    sketcher = Sketcher.fit("image", Batch(x[:1000]), SECRET)
    asked, rng = x[1000:], np.random.default_rng(0)
    assert away(sketcher, asked, np.flip(asked, axis=across)).max() < 1e-5
    assert (away(sketcher, asked, np.roll(asked, 1, axis=across)) < sketcher.radius).mean() > 0.9
    assert (
        away(sketcher, asked, asked + 0.03 * rng.normal(size=asked.shape)) < sketcher.radius
    ).mean() > 0.9
    assert (away(sketcher, asked, x[:200]) < sketcher.radius).mean() < 0.02
    flat = Sketcher.fit("image", Batch(x[:1000].reshape(1000, -1)), SECRET, x.shape[1:])
    assert np.array_equal(flat.sketch(Batch(asked))[1], sketcher.sketch(Batch(asked))[1])


def test_real_images_and_their_variants(real_data):
    x = np.load(real_data / "fashion_mnist.npz")["X_train"][:1600].reshape(-1, 28, 28) / 255.0
    sketcher = Sketcher.fit("image", Batch(x[:1200]), SECRET)
    asked, rng = x[1200:], np.random.default_rng(0)
    assert away(sketcher, asked, asked[:, :, ::-1]).max() < 1e-5
    assert (away(sketcher, asked, np.roll(asked, 1, axis=2)) < sketcher.radius).mean() > 0.7
    assert (
        away(sketcher, asked, asked + 0.02 * rng.normal(size=asked.shape)) < sketcher.radius
    ).mean() > 0.9
    assert (away(sketcher, asked, x[:400]) < sketcher.radius).mean() < 0.02


def test_texts_keep_near_what_differs_by_a_word():
    rng = np.random.default_rng(2)
    words = [f"word{i}" for i in range(3000)]
    texts = [" ".join(rng.choice(words, 80)) for _ in range(400)]
    sketcher = Sketcher.fit("text", Batch(objects(texts)), SECRET)
    changed = [text.replace(text.split()[40], "other", 1).upper() for text in texts]
    assert (
        np.median(away(sketcher, objects(texts), objects(changed)))
        < np.median(away(sketcher, objects(texts[:200]), objects(texts[200:]))) / 2
    )
    assert away(sketcher, objects(["a b c"]), objects(["A  B\nC"]))[0] < 1e-6


def test_numbers_beyond_all_measure_leave_finite_sketches():
    image = Sketcher.fit("image", Batch(smooth(50)), SECRET)
    wild = np.zeros((3, 28, 28))
    wild[0, 0, 0], wild[1, 5, 5], wild[2] = 1e300, -1e38, np.inf
    table = Sketcher.fit("tabular", Batch(np.random.default_rng(0).normal(size=(50, 3))), SECRET)
    for found in (
        image.sketch(Batch(wild)),
        table.sketch(Batch(np.array([[1e300, -1e300, np.inf], [np.nan, 0, 1]]))),
    ):
        assert np.isfinite(found[1]).all() and found[2].max() < 32


def test_a_record_has_one_hash_however_it_is_written():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    x[5, 1], x[6, 2] = np.nan, 0.0
    sketcher = Sketcher.fit("tabular", Batch(columns=dict(zip("abc", x.T, strict=True))), SECRET)
    negative = x.astype(np.float64)
    negative[6, 2] = -0.0
    rows = json.loads(json.dumps(x.astype(float).tolist()).replace("NaN", "null"))
    written = {
        "array": Batch(x),
        "double": Batch(negative),
        "JSON": Batch(np.array(rows, dtype=object)),
        "columns": Batch(columns=dict(zip("abc", x.T, strict=True))),
        "columns of objects": Batch(
            columns={
                name: objects(list(col))
                for name, col in zip("abc", zip(*rows, strict=True), strict=True)
            }
        ),
        "frame": build_request_batch(pd.DataFrame(x, columns=list("abc"))),
    }
    hashes = {name: sketcher.sketch(batch)[0].tolist() for name, batch in written.items()}
    assert all(found == hashes["array"] for found in hashes.values()), hashes
    assert len(set(hashes["array"])) == 60


def test_mixed_records_have_one_hash_alone_or_together_and_with_nothing_for_nan():
    sketcher = Sketcher.fit(
        "tabular", build_request_batch(pd.concat([pd.DataFrame(MIXED)] * 10)), SECRET
    )
    whole = build_request_batch(pd.DataFrame(MIXED))
    plain = Batch(
        columns={
            name: objects([None if value != value else value for value in column])
            for name, column in MIXED.items()
        }
    )
    listed = Batch(np.array([[30, "cook", 1.0], [40.0, "smith", 2], [None, None, 3]], dtype=object))
    together = sketcher.records(whole).tolist()
    assert sketcher.records(plain).tolist() == sketcher.records(listed).tolist() == together
    assert [sketcher.records(whole.take([i]))[0] for i in range(3)] == together
    numbers = Batch(np.array([[30.0, 1.0, 2.0]]))  # no words in this request
    as_objects = Batch(np.array([[30, 1, 2]], dtype=object))
    assert sketcher.records(numbers).tolist() == sketcher.records(as_objects).tolist()


def test_another_secret_gives_other_hashes_and_points():
    x = np.random.default_rng(0).normal(size=(100, 30))
    one, two = (Sketcher.fit("tabular", Batch(x), secret) for secret in (SECRET, OTHER))
    assert not np.intersect1d(one.records(Batch(x)), two.records(Batch(x))).size
    assert not np.allclose(one.sketch(Batch(x))[1], two.sketch(Batch(x))[1], atol=0.1)
    assert SECRET.client("a") != OTHER.client("a")
    assert SECRET.hash64("record", b"a") != SECRET.hash64("client", b"a")


@pytest.mark.parametrize("kind", ["tabular", "image", "text"])
def test_a_sketch_read_back_sketches_the_same_to_the_bit(tmp_path, kind):
    x = {
        "tabular": build_request_batch(mixed(200)),
        "image": Batch(smooth(60)),
        "text": Batch(objects([f"a{i} b c d{i} e" for i in range(60)])),
    }[kind]
    sketcher = Sketcher.fit(kind, x, SECRET)
    write_sketcher(tmp_path / "s", sketcher)
    found = read_sketcher(tmp_path / "s", SECRET)
    assert all(
        np.array_equal(a, b) for a, b in zip(found.sketch(x), sketcher.sketch(x), strict=True)
    )
    assert found.radius == sketcher.radius and (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert SECRET.key not in (tmp_path / "s").read_bytes()
    with pytest.raises(InputError, match="made with the key o"):
        read_sketcher(tmp_path / "s", OTHER)


def test_truncated_and_foreign_files_are_one_sentence(tmp_path):
    x = Batch(np.random.default_rng(0).normal(size=(50, 3)))
    write_sketcher(tmp_path / "s", Sketcher.fit("tabular", x, SECRET))
    write_fingerprints(
        tmp_path / "f",
        Fingerprints.of(np.arange(9, dtype=np.uint64), np.zeros(0, dtype=np.uint64), "k"),
    )
    write_secrets(tmp_path / "k", [SECRET])
    readers = {
        "s": lambda p: read_sketcher(p, SECRET),
        "f": lambda p: read_fingerprints(p, SECRET),
        "k": read_secrets,
    }
    for name, read in readers.items():
        data = (tmp_path / name).read_bytes()
        read(tmp_path / name)
        for broken in [data[:n] for n in range(0, len(data), 7)] + [
            b"",
            b"{}",
            b"[1]",
            b"\x80\x04N.",
            data[::-1],
        ]:
            (tmp_path / "broken").write_bytes(broken)
            with pytest.raises(InputError, match=r"Expected .* got .*"):
                read(tmp_path / "broken")
        for other in set(readers) - {name}:
            with pytest.raises(InputError):
                read(tmp_path / other)
        with pytest.raises(InputError):
            read(tmp_path / "absent")


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_foreign_records_hit_at_the_stated_rate_and_members_always(rate):
    rng = np.random.default_rng(3)
    members, foreign = (rng.integers(0, 2**63, n).astype(np.uint64) for n in (5000, 400_000))
    honey = members[:3]
    found = Fingerprints.of(members, honey, "k", rate)
    assert (found.hits(members) > 0).all() and (found.hits(honey) == 2).all()
    hits = int((found.hits(foreign) > 0).sum())
    low, high = clopper_pearson(hits, len(foreign), 0.999)
    assert low <= 1 - (1 - 1 / found.range) ** len(members) <= high
    assert 0.9 * rate < hits / len(foreign) < 1.1 * rate
    assert (found.hits(foreign) < 2).all()


def test_a_thief_of_file_and_key_cannot_be_sure_of_one_record():
    members = np.random.default_rng(0).integers(0, 2**63, 5000).astype(np.uint64)
    found = Fingerprints.of(members, members[:0], "k", 0.001)
    assert found.range == 5_000_000 and found.members.max() < found.range  # 23 bits of 64 are kept
    with pytest.raises(InputError, match="false rate"):
        Fingerprints.of(members, members[:0], "k", 0.0)
    with pytest.raises(InputError, match="at least one member"):
        Fingerprints.of(members[:0], members[:0], "k")
