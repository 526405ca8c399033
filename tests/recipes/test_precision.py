"""bfloat16 where the processor only emulates it: told apart by measurement, and refused."""

from __future__ import annotations

import pytest
import torch
from benchmark_scripts import load_benchmark
from sklearn.linear_model import LogisticRegression
from torch import nn

from memberscope.cli.commands import doctor
from memberscope.errors import InputError
from memberscope.recipes import (
    ProductRates,
    SklearnRecipe,
    TorchRecipe,
    measure_product_rates,
    with_precision,
)

EMULATED, NATIVE = ProductRates(68.0, 1.5), ProductRates(190.0, 385.0)


def net() -> nn.Module:
    return nn.Linear(3, 2)


@pytest.fixture
def pretend(monkeypatch):
    """Put other rates in the place of those of this processor."""

    def put(rates: ProductRates) -> None:
        for module in ("memberscope.recipes.precision", "memberscope.recipes"):
            monkeypatch.setattr(f"{module}.measure_product_rates", lambda device="cpu": rates)

    return put


def test_rates_are_those_of_the_clock():
    """Each product takes a second in float32 and fifty in bfloat16, by a clock of our own."""
    seconds = iter(
        [value for step in (1, 50) for k in range(4) for value in (0.0, step + (k == 0))]
    )
    rates = measure_product_rates(clock=lambda: next(seconds))
    assert rates.float32 == pytest.approx(2 * 256**3 / 1e9)
    assert rates.float32 / rates.bfloat16 == pytest.approx(50) and not rates.is_bfloat16_fast


def test_this_processor_is_classed_by_its_flags():
    """Processors with instructions for bfloat16 are fast, those with AVX2 alone are not."""
    capability = torch.backends.cpu.get_cpu_capability()
    with open("/proc/cpuinfo") as file:
        flags = next((line for line in file if line.startswith("flags")), "").split()
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        assert measure_product_rates().is_bfloat16_fast
    elif capability == "AVX2" and "avx2" in flags and "avx_ne_convert" not in flags:
        assert not measure_product_rates().is_bfloat16_fast
    else:
        pytest.skip(f"nothing is known of {capability}")


def test_bfloat16_is_refused_with_both_rates_where_it_is_emulated(pretend):
    pretend(EMULATED)
    with pytest.raises(InputError, match=r"emulates it: .* 1\.5 GFLOP/s in bfloat16 and 68 in fl"):
        with_precision(TorchRecipe(net), "bfloat16")
    assert with_precision(TorchRecipe(net), "float64").precision == "float64"
    assert with_precision(TorchRecipe(net, precision="bfloat16"), None).precision == "bfloat16"
    pretend(NATIVE)
    assert with_precision(TorchRecipe(net), "bfloat16").precision == "bfloat16"


def test_a_device_that_is_not_there_is_refused_when_the_module_is_built():
    recipe = with_precision(TorchRecipe(net, device="mars"), "bfloat16")
    assert (recipe.precision, recipe.device) == ("bfloat16", "mars")


def test_only_recipes_with_a_precision_have_one():
    recipe = SklearnRecipe(LogisticRegression())
    assert with_precision(recipe, None) is recipe
    with pytest.raises(InputError, match="Expected a TorchRecipe for a precision, got SklearnRec"):
        with_precision(recipe, "float64")


def test_doctor_says_which_it_is(pretend, capsys):
    pretend(EMULATED)
    doctor.show_environment()
    said = " ".join(capsys.readouterr().out.split())
    assert "missing bfloat16 on cpu: emulated, 45 times slower (1.5 GFLOP/s in bfloat16" in said
    pretend(NATIVE)
    doctor.show_environment()
    assert "ok bfloat16 on cpu: 385 GFLOP/s" in " ".join(capsys.readouterr().out.split())


def test_the_benchmark_leaves_out_what_is_not_on_this_processor():
    benchmark = load_benchmark("training")
    assert benchmark.list_precisions(NATIVE) == {"float32": None, "bfloat16": None}
    left_out = benchmark.list_precisions(EMULATED)
    assert left_out["float32"] is None and left_out["bfloat16"].startswith("not on this processor")
