"""Training defences: each changes what it says and nothing else.

And what cannot be done is one sentence.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from memberscope import defences, outputs
from memberscope._numerics import softmax
from memberscope.defences import (
    HAMP,
    L2,
    Augment,
    BehindOutputs,
    Distillation,
    Dropout,
    EarlyStopping,
    EstimatorParameter,
    LabelSmoothing,
    Mixup,
    RelaxLoss,
    Selena,
    expand_sweep,
    parse_defence,
)
from memberscope.defences.regularization import add_dropout
from memberscope.defences.selena import draw_exclusions
from memberscope.errors import InputError
from memberscope.outputs.memguard import MemGuard
from memberscope.recipes import (
    SGD,
    Distilling,
    Execution,
    SklearnRecipe,
    TorchRecipe,
    TrainingJob,
    as_recipe,
    build_balanced_design,
    train_fleet,
)
from memberscope.signals import SignalRequest
from memberscope.types import Access, Records, SignalSpec, TrainingDefence

TRAINING: tuple[TrainingDefence, ...] = (
    *(
        L2(0.01),
        Dropout(0.3),
        EarlyStopping(3),
        Augment("noise:0.2"),
        LabelSmoothing(0.1),
        Mixup(0.4),
    ),
    *(RelaxLoss(0.5), HAMP(0.5, 0.01), Selena(5, 2)),
)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3))


def records(n: int = 120, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    y = (x[:, :3] + rng.normal(size=(n, 3))).argmax(axis=1)
    return Records(x, y, np.char.add(f"{seed}:", np.arange(n).astype(str)))


BASE = TorchRecipe(network, SGD(0.1), epochs=30, batch_size=16, engine="matrices", stack=2)


@pytest.mark.parametrize("defence", TRAINING, ids=lambda defence: defence.name)
def test_a_defended_recipe_trains_alone_and_in_company_alike_and_has_a_digest_of_its_own(defence):
    pool, changed = records(), defence(BASE)
    assert (
        parse_defence(defence.name).training == (defence,)
        and parse_defence(defence.name).name == defence.name
    )
    inside = build_balanced_design(120, 60, 3, np.random.default_rng(1))
    together = [model.query(pool.x) for model in changed.many(pool, inside, [1, 2, 3])]
    alone = [
        next(changed.many(pool, row[None], [seed])).query(pool.x)
        for row, seed in zip(inside, [1, 2, 3], strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=2e-3)
    plain = [model.query(pool.x) for model in BASE.many(pool, inside, [1, 2, 3])]
    assert np.abs(np.array(together) - plain).max() > 1e-2
    digests = {changed.digest, BASE.digest, *(other(BASE).digest for other in TRAINING)}
    assert None not in digests and len(digests) == len(TRAINING) + 1


def test_selena_s_student_learns_what_models_that_never_saw_the_record_say():
    pool, recipe = records(), Selena(4, 2)(BASE)
    row = np.arange(120) < 60
    taught = recipe.taught(pool, row, 7)
    assert (taught[~row] == 0).all() and np.allclose(taught[row].sum(axis=1), 1)
    rng = np.random.default_rng([7, 5])
    out = draw_exclusions(60, 4, 2, rng)
    seeds = [int(value) for value in rng.integers(0, 2**31 - 1, 4)]
    members = Records(pool.x[:60], pool.y[:60], pool.ids[:60])
    expected = np.zeros((60, 3))
    for k in range(4):
        rows = ~out[:, k]
        model = BASE(Records(members.x[rows], members.y[rows], members.ids[rows]), seeds[k])
        expected += softmax(model.query(members.x)) * out[:, [k]]
    np.testing.assert_allclose(taught[row], expected / 2, atol=1e-3)
    confident = softmax(recipe(members, 7).query(members.x))[np.arange(60), members.y].mean()
    undefended = softmax(BASE(members, 7).query(members.x))[np.arange(60), members.y].mean()
    assert confident < undefended - 0.05


def test_selena_leaves_every_record_out_of_as_many_models_and_keeps_their_sizes_even():
    out = draw_exclusions(103, 25, 10, np.random.default_rng(0))
    assert (out.sum(axis=1) == 10).all() and np.ptp(out.sum(axis=0)) <= 1
    together = (out[:, 0] & out[:, 1]).mean()
    assert 0.05 < together < 0.3  # 10 * 9 / (25 * 24) = .15 at random


def test_distillation_shows_the_student_public_records_alone():
    public = records(80, seed=3)
    recipe = Distillation(2.0, public)(BASE)
    pool = records()
    model = next(recipe.many(pool, np.ones((1, 120), dtype=bool), [5]))
    soft = softmax(BASE(pool, 5).query(public.x) / 2.0)[None]
    student = replace(BASE, loss=Distilling(2.0))
    alone = next(student.many(public, np.ones((1, 80), dtype=bool), [5 ^ 0x2545F491], soft))
    np.testing.assert_allclose(model.query(public.x), alone.query(public.x), atol=1e-5)
    agrees = (model.query(public.x).argmax(1) == BASE(pool, 5).query(public.x).argmax(1)).mean()
    assert agrees > 0.9
    with pytest.raises(InputError, match="Expected public records to distil on, got none"):
        Distillation(1.0)(BASE)


def test_memguard_is_fitted_to_each_model_and_the_fleet_observes_its_answers():
    pool, reserve = records(), records(60, seed=4)
    recipe = BehindOutputs(MemGuard(2.0), reserve)(BASE)
    inside = build_balanced_design(120, 60, 2, np.random.default_rng(1))
    first, second = recipe.many(pool, inside, [1, 2])
    assert first.digest != second.digest and first.signal == "probabilities"
    plain = [softmax(model.query(pool.x)) for model in BASE.many(pool, inside, [1, 2])]
    answered = first.query(pool.x)
    assert (answered.argmax(1) == plain[0].argmax(1)).all() and np.abs(
        answered - plain[0]
    ).max() > 1e-3
    wanted = (SignalRequest(Access.PROBABILITIES, SignalSpec("logit_confidence")),)
    fleet = train_fleet(
        TrainingJob(recipe, pool, inside, (1, 2), wanted, "probabilities", 3),
        None,
        Execution("sequential"),
    )
    seen = answered[np.arange(120), pool.y]
    np.testing.assert_allclose(
        fleet.observed[wanted[0]][0, :, 0, 0], np.log(seen) - np.log1p(-seen), atol=0.05
    )
    with pytest.raises(
        InputError, match="Expected records that train no model to fit memguard:2 to, got none"
    ):
        BehindOutputs(MemGuard(2.0))(BASE)


def test_dropout_goes_where_it_belongs():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.drop, self.out = nn.Linear(8, 4), nn.Dropout(0.1), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.drop(self.inner(x)))

    assert add_dropout(Own, 0.4).drop.p == 0.4
    nested = add_dropout(
        lambda: nn.Sequential(nn.Sequential(nn.Linear(8, 4), nn.Tanh()), nn.Linear(4, 3)), 0.4
    )
    assert isinstance(nested[0][2], nn.Dropout) and len(nested) == 2
    with pytest.raises(InputError, match="a Sequential with activations, got Linear"):
        add_dropout(lambda: nn.Linear(8, 3), 0.4)


def test_estimators_are_swept_over_their_own_parameters():
    boosted = SklearnRecipe(GradientBoostingClassifier())
    for name, parameter, value in (
        ("depth:2", "max_depth", 2),
        ("rate:0.05", "learning_rate", 0.05),
        ("subsample:0.5", "subsample", 0.5),
        ("leaf_size:20", "min_samples_leaf", 20),
        ("leaves:8", "max_leaf_nodes", 8),
        ("set:n_estimators=5", "n_estimators", 5),
    ):
        changed = parse_defence(name).recipe(boosted)
        assert (
            changed.estimator.get_params()[parameter] == value and changed.digest != boosted.digest
        )
    assert boosted.estimator.get_params()["max_depth"] == 3
    piped = SklearnRecipe(make_pipeline(StandardScaler(), LogisticRegression()))
    assert L2(10.0)(piped).estimator.get_params()["logisticregression__C"] == 0.1
    assert expand_sweep(("depth:2|4|8", "set:max_features=0.5|0.9")) == (
        *("depth:2", "depth:4", "depth:8", "set:max_features=0.5", "set:max_features=0.9"),
    )
    assert expand_sweep(("dpsgd:eps=2|8+rate:0.5|1",)) == tuple(
        f"dpsgd:eps={e}+rate:{r}" for e in (2, 8) for r in (0.5, 1)
    )
    assert parse_defence("rate:0.5").recipe(BASE).optimiser.lr == 0.5
    with pytest.raises(InputError, match="a parameter for rate, got RandomForestClassifier"):
        EstimatorParameter("rate", 0.1)(SklearnRecipe(RandomForestClassifier()))
    with pytest.raises(
        InputError, match="Expected parameters of GradientBoostingClassifier, got deepth"
    ):
        parse_defence("set:deepth=3").recipe(boosted)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nonsense", "Expected a defence such as"),
        ("l2", "Expected a defence such as"),
        ("l2:x", "Expected a defence such as"),
        ("l2:0", "Expected a strength above 0"),
        ("dropout:1", r"Expected a share in \(0, 1\)"),
        ("smooth:2", r"Expected a share in \(0, 1\)"),
        ("mixup:0", "Expected alpha above 0"),
        ("relaxloss:-1", "Expected alpha >= 0"),
        ("hamp:1", r"Expected entropy in \[0, 1\)"),
        ("selena:5:5", "Expected 0 < l < k"),
        ("early_stopping:0", "Expected a patience of at least one epoch"),
        ("augment:spin", "Expected an augmentation flip"),
        ("depth:1.5", "with a number above 0, got depth:1.5"),
        ("set:depth", "Expected set:parameter=value"),
        ("relaxloss:1:0", "Expected alpha >= 0 and upper"),
        ("distill:0", "Expected a temperature above 0"),
        ("dpsgd", "Expected"),
        ("dpsgd:noise=0:eps=1", "Expected"),
        ("top:1+l2:0.1", "Expected what changes training before what changes outputs"),
        ("none+top:1", "Expected a defence such as"),
    ],
)
def test_a_name_that_says_nothing_is_one_sentence(name, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_defence(name)


@pytest.mark.parametrize(
    "name",
    [
        "l2:0.1+dropout+smooth+mixup",
        "early_stopping",
        "augment:flip",
        "relaxloss:1",
        "hamp:0.5:0.001+hamp_output",
        "selena:5:2+memguard:1",
        "distill:2",
        "dpsgd:eps=8",
        "set:epochs=3",
        "depth:4",
    ],
)
def test_the_code_of_a_defence_calls_what_can_be_imported(name):
    code = parse_defence(name, records(), records(10)).settings
    called = re.findall(r"([A-Z]\w*)\(", code)
    assert len(called) > name.count("+")
    assert set(called) <= {*defences.__all__, *outputs.__all__}


def test_recipes_that_cannot_have_a_defence_say_so():
    own = as_recipe(lambda records, seed: None)
    for name in ("l2:0.1", "dropout", "selena", "relaxloss:1"):
        with pytest.raises(InputError, match="Expected a TorchRecipe for the defence"):
            parse_defence(name).recipe(own)
    with pytest.raises(InputError, match="Expected an estimator for the defence depth:3"):
        parse_defence("depth:3").recipe(own)
    with pytest.raises(InputError, match=r"at least 50 records for SELENA with k = 25, got 20"):
        Selena()(BASE)(records(20), 0)
    for odd in ("set:epochs=abc", "set:batch_size=None"):
        with pytest.raises(InputError, match="Expected a value that"):
            parse_defence(odd).recipe(BASE)
    with pytest.raises(InputError, match="without mixup or early stopping"):
        parse_defence("mixup+dpsgd:eps=8").recipe(BASE)
