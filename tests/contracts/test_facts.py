"""What targets and recipes offer beside their protocols, read in one place."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from pydantic import ConfigDict, TypeAdapter
from tiny_language_models import (
    build_causal,
    build_masked,
    build_model,
    build_tokenizer,
    train_tokenizer,
)

import memberscope
from memberscope.defences import DPSGD, L2, BehindOutputs, Distillation, Selena
from memberscope.errors import InputError
from memberscope.facts import (
    RecipeFacts,
    TargetFacts,
    has_recipe_facts,
    read_recipe_facts,
    read_target_facts,
)
from memberscope.outputs import MemGuard, parse_restriction
from memberscope.recipes import (
    FunctionRecipe,
    SklearnRecipe,
    TableRecipe,
    TorchRecipe,
    as_recipe,
)
from memberscope.recipes.texts import CausalLMRecipe
from memberscope.signals.texts.restricted_target import RestrictedTextTarget
from memberscope.targets import (
    FunctionOutputsTarget,
    FunctionTarget,
    HttpTarget,
    ReleasedTable,
    RestrictedTarget,
    StoredTarget,
    StoredTokenTarget,
    TextServerTarget,
    TokenFunctionTarget,
    read_signals,
    read_token_signals,
    wrap,
)
from memberscope.types import Access, Recipe, Records, Target
from memberscope.wire import Endpoint, TextEndpoint

SOURCE = Path(memberscope.__file__).parent
EXTRAS = ("torch", "onnxruntime", "onnx", "lightgbm", "keras", "transformers")
ABSENT = [name for name in EXTRAS if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"needs {', '.join(ABSENT)}")
# Names that other libraries' objects have too, so that the code asks those for them by name
SHARED = {"columns", "estimator", "booster", "model", "predict", "recipe"}


@cache
def parse_source() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}


class BareTarget:
    """The members of the protocol and nothing else."""

    access, signal, n_classes, digest, n_parameters = Access.LABEL, "labels", 2, None, None

    def query(self, x):
        return np.zeros((len(x), 1))


class BareRecipe:
    """A recipe that can be called and nothing else."""

    def __call__(self, records, seed):
        return BareTarget()


def fitted():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])


def fitted_regressor():
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])


def net():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(3, 2))


def onnx_session():
    import onnx.parser
    import onnxruntime

    text = (
        '<ir_version: 9, opset_import: ["": 17]> '
        "g (float[n, 1] a, float[n, 1] b) => (float[n, 2] p) "
        "{x = Concat <axis = 1> (a, b)  p = Softmax <axis = 1> (x)}"
    )
    return onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString())


def booster():
    import lightgbm

    data = lightgbm.Dataset(
        np.arange(80.0)[:, None], np.arange(80) > 39, feature_name=["age"], free_raw_data=False
    )
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 2)


def keras_model():
    from memberscope.targets.frameworks.keras import import_keras

    keras = import_keras()
    return keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = BertConfig(vocab_size=9, num_labels=2, intermediate_size=8, **sizes)
    return BertForSequenceClassification(config)


def stored(folder: Path) -> StoredTarget:
    file = folder / "s.csv"
    file.write_text("member,label,p0,p1\n1,0,0.9,0.1\n0,1,0.4,0.6\n")
    return StoredTarget(read_signals(file))


def stored_tokens(folder: Path) -> StoredTokenTarget:
    file = folder / "t.jsonl"
    file.write_text('{"member": 1, "log_probs": [-1, -2]}\n{"member": 0, "log_probs": [-3]}\n')
    return StoredTokenTarget(read_token_signals(file))


def served() -> HttpTarget:
    return HttpTarget(
        Endpoint("http://localhost:1", model_name="m", classes=("a", "b"), top_k=1, columns=("x",))
    )


# What each class of target says of itself; all else is the default
TARGETS: dict[str, tuple[Callable[[Path], Target], dict[str, Any]]] = {
    "FunctionTarget": (lambda folder: FunctionTarget(len, n_classes=2), {}),
    "FunctionOutputsTarget": (
        lambda folder: FunctionOutputsTarget(len, task="regression"),
        {"task": "regression", "lacks_class_count": True},
    ),
    "SklearnOutputsTarget": (
        lambda folder: wrap(fitted_regressor()),
        {"task": "regression", "lacks_class_count": True, "notes": ()},
    ),
    "SklearnTarget": (lambda folder: wrap(fitted()), {"classes": ("no", "yes")}),
    "TorchTarget": (
        lambda folder: wrap(net()),
        {"lacks_class_count": True, "model_kind": "neural_network"},
    ),
    "OnnxTarget": (lambda folder: wrap(onnx_session()), {"columns": ("a", "b")}),
    "BoosterTarget": (lambda folder: wrap(booster()), {"columns": ("age",)}),
    "KerasTarget": (
        lambda folder: wrap(keras_model()),
        {"lacks_class_count": False, "model_kind": "neural_network"},
    ),
    "HuggingFaceTarget": (lambda folder: wrap(bert()), {"model_kind": "neural_network"}),
    "StoredTarget": (stored, {"stored": True}),
    "CausalLMTarget": (
        lambda folder: wrap((build_causal(train_tokenizer()), train_tokenizer())),
        {"task": "text", "model_kind": "neural_network", "base": None, "notes": ()},
    ),
    "MaskedLMTarget": (
        lambda folder: wrap(
            (build_masked(train_tokenizer()), train_tokenizer(mask_token="<mask>"))
        ),
        {"task": "text", "model_kind": "neural_network"},
    ),
    "TokenFunctionTarget": (
        lambda folder: TokenFunctionTarget(len, prefix="Once.", tokens_identity="bytes"),
        {"task": "text", "prefix": "Once.", "tokens_identity": "bytes"},
    ),
    "StoredTokenTarget": (
        stored_tokens,
        {"task": "text", "stored": True, "notes": ("Read 3 tokens of 2 texts from t.jsonl.",)},
    ),
    "TextServerTarget": (
        lambda folder: TextServerTarget(TextEndpoint("http://localhost:1", "llama.cpp")),
        {"task": "text", "costly": True},
    ),
    "HttpTarget": (
        lambda folder: served(),
        {
            "classes": ("a", "b"),
            "columns": ("x",),
            "costly": True,
            "hides": True,
            "restriction": "top:1",
        },
    ),
    "RestrictedTarget": (
        lambda folder: RestrictedTarget(served(), parse_restriction("round:2")),
        {"classes": ("a", "b"), "costly": True, "hides": True, "restriction": "round:2"},
    ),
    "RestrictedTextTarget": (
        lambda folder: RestrictedTextTarget(
            TokenFunctionTarget(len, tokens_identity="bytes"), parse_restriction("round:1")
        ),
        {"task": "text", "restriction": "round:1", "tokens_identity": "bytes"},
    ),
}


def torch_recipe() -> TorchRecipe:
    return TorchRecipe(net, stack=3, threads=2, device="cpu")


def some_records() -> Records:
    return Records(np.zeros((4, 3)), np.arange(4) % 2, np.arange(4).astype(str))


RECIPES: dict[str, tuple[Callable[[], Recipe], dict[str, Any]]] = {
    "FunctionRecipe": (lambda: FunctionRecipe(lambda records, seed: None), {"reads_seed": False}),
    "SklearnRecipe": (lambda: SklearnRecipe(fitted()), {"reads_seed": True}),
    "TorchRecipe": (torch_recipe, {"stack": 3, "threads": 2}),
    "CausalLMRecipe": (
        lambda: CausalLMRecipe(build_model(), tokenizer=build_tokenizer()),
        {"threads": 1, "device": "cpu", "reads_seed": True},
    ),
    "SelenaRecipe": (lambda: Selena(4, 2)(torch_recipe()), {"stack": None, "threads": 2}),
    "DistilledRecipe": (
        lambda: Distillation(1.0, some_records())(torch_recipe()),
        {"stack": 3, "threads": 2},
    ),
    "BehindOutputsRecipe": (
        lambda: BehindOutputs(MemGuard(1.0), some_records())(torch_recipe()),
        {"stack": 3, "threads": 2},
    ),
    "TableRecipe": (
        lambda: TableRecipe(as_recipe(lambda records, seed: records.x), ReleasedTable(np.eye(3))),
        {"threads": 1, "reads_seed": False},
    ),
    "defended by L2": (lambda: L2(0.1)(torch_recipe()), {"stack": 3}),
    "defended by DPSGD": (lambda: DPSGD(epsilon=8.0)(torch_recipe()), {"threads": 2}),
}


def check_types(facts: Any) -> None:
    """Check each value by the type that its field declares."""
    any_type = ConfigDict(arbitrary_types_allowed=True)
    names = {"Target": Any, "Recipe": Any}
    import memberscope.facts as module

    for name, hint in get_type_hints(type(facts), {**vars(module), **names}).items():
        TypeAdapter(hint, config=any_type).validate_python(getattr(facts, name), strict=True)


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_gives_facts_of_the_right_types(name, tmp_path):
    make, expected = TARGETS[name]
    target = make(tmp_path)
    assert type(target).__name__ == name
    facts = read_target_facts(target)
    check_types(facts)
    assert {key: getattr(facts, key) for key in expected} == expected


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_gives_facts_of_the_right_types(name):
    make, expected = RECIPES[name]
    recipe = make()
    facts = read_recipe_facts(recipe)
    check_types(facts)
    assert facts.digest is not None and facts.digest == recipe.digest
    assert {key: getattr(facts, key) for key in expected} == expected
    assert has_recipe_facts(recipe) and as_recipe(recipe) is recipe


def test_every_class_of_the_tree_is_in_a_table():
    """A new target or recipe belongs into a table above."""
    classes = {
        node.name
        for tree in parse_source().values()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    # Protocols, bases, and what only carries a target
    others = {"Target", "Recipe", "MeteredTarget", "LoadedTarget", "StudentRecipe"}
    # What a signal of one's own is given: no room reads facts of it
    others |= {"LimitedTarget", "LanguageModelTarget"}
    assert {name for name in classes if name.endswith("Target")} - others == set(TARGETS)
    found = {name for name in classes if name.endswith("Recipe")} - others
    assert found == {name for name in RECIPES if name.endswith("Recipe")}


def test_a_bare_object_gives_the_defaults():
    assert read_target_facts(BareTarget()) == TargetFacts()
    facts = read_recipe_facts(BareRecipe())
    assert facts == RecipeFacts()
    assert facts.digest is None and facts.reads_seed
    assert not has_recipe_facts(BareRecipe())


def test_none_is_as_good_as_missing():
    target, recipe = BareTarget(), BareRecipe()
    for name in TargetFacts.__dataclass_fields__:
        setattr(target, name, None)
    for name in (*RecipeFacts.__dataclass_fields__, "digest", "reads_seed"):
        setattr(recipe, name, None)
    assert read_target_facts(target) == TargetFacts()
    facts = read_recipe_facts(recipe)
    assert facts == RecipeFacts() and facts.digest is None and facts.reads_seed


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("classes", np.array([1, 0]), ("1", "0")),
        ("columns", ["age", 3], ("age", "3")),
        ("columns", np.array([]), ()),
        ("notes", ["Read as it is."], ("Read as it is.",)),
        ("hides", np.bool_(True), True),
        # Names that an object may use for something else
        ("target", "income", None),
        ("inputs", 3, ()),
    ],
)
def test_values_of_a_target_are_converted(name, given, read):
    target = BareTarget()
    setattr(target, name, given)
    assert getattr(read_target_facts(target), name) == read


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [("threads", np.int64(4), 4), ("stack", np.int32(2), 2), ("model", "resnet", None)],
)
def test_values_of_a_recipe_are_converted(name, given, read):
    recipe = BareRecipe()
    setattr(recipe, name, given)
    assert getattr(read_recipe_facts(recipe), name) == read


def test_a_device_of_torch_is_named():
    import torch

    recipe = BareRecipe()
    recipe.device = torch.device("cuda:1")
    assert read_recipe_facts(recipe).device == "cuda:1"


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("columns", 3, "a list of names, got 3"),
        ("columns", "age", "a list of names, got 'age'"),
        ("classes", 2, "a list of names, got 2"),
        ("classes", [["a"], ["b", "c"]], "a list of names, got"),
        ("notes", "One note.", "a list of strings, got 'One note.'"),
        ("restriction", parse_restriction("top:1"), r"a string, got TopK\(k=1\)"),
        ("hides", "no", "True or False, got 'no'"),
        ("costly", 0.5, "True or False, got 0.5"),
        ("model_kind", "gbdt", "one of boosted_trees, forest, .*, got 'gbdt'"),
        ("predict", ["yes"], r"a function or a method, got \['yes'\]"),
        ("same_labels", "other", "a target, got 'other'"),
    ],
)
def test_a_wrong_type_of_a_target_is_one_sentence(name, given, words):
    target = BareTarget()
    setattr(target, name, given)
    with pytest.raises(InputError, match=rf"^Expected {name} of BareTarget to be {words}") as found:
        read_target_facts(target)
    assert "\n" not in str(found.value) and len(str(found.value)) < 200


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("stack", 1.5, "a whole number, got 1.5"),
        ("threads", "two", "a whole number, got 'two'"),
        ("many", True, "a function or a method, got True"),
        ("digest", b"abc", "a string, got b'abc'"),
        ("reads_seed", "yes", "True or False, got 'yes'"),
    ],
)
def test_a_wrong_type_of_a_recipe_is_one_sentence(name, given, words):
    recipe = BareRecipe()
    setattr(recipe, name, given)
    with pytest.raises(InputError, match=rf"^Expected {name} of BareRecipe to be {words}"):
        getattr(read_recipe_facts(recipe), name)


def test_a_costly_property_is_read_once_and_only_where_it_is_asked_for():
    read = []

    class Slow(BareRecipe):
        @property
        def digest(self):
            read.append("digest")
            return "abc"

        @property
        def reads_seed(self):
            read.append("reads_seed")
            return True

        def tuned(self, pool, size, n_models):
            read.append("tuned")
            return self, {}

    facts = read_recipe_facts(Slow())
    assert facts.tuned is not None and facts.threads == 1 and read == []
    assert (facts.digest, facts.digest, facts.reads_seed) == ("abc", "abc", True)
    assert read == ["digest", "reads_seed"]


def test_facts_are_those_of_the_moment():
    target = wrap(net())
    assert read_target_facts(target).reading is None
    target.query(np.zeros((2, 3)))
    facts = read_target_facts(target)
    assert facts.reading is target.reading and not facts.lacks_class_count
    hidden = read_target_facts(RestrictedTarget(target, parse_restriction("top:1")))
    assert hidden.reading is target.reading and hidden.same_labels is target and hidden.hides


def test_no_other_file_looks_these_attributes_up_by_name():
    known = {*TargetFacts.__dataclass_fields__, *RecipeFacts.__dataclass_fields__}
    known |= {"digest", "reads_seed", "known_classes"}
    found = [
        f"{path.name}:{node.lineno}"
        for path, tree in parse_source().items()
        if path.name != "facts.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in known - SHARED
    ]
    assert found == []
