"""`memberscope doctor`: what this installation can do."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from memberscope.cli.output import print_line

EXTRAS = {
    "torch": "PyTorch modules (memberscope[torch])",
    "pyarrow": "Parquet (memberscope[parquet])",
    "httpx2": "live endpoints (memberscope[http])",
    "onnxruntime": "ONNX models (memberscope[onnx])",
    "lightgbm": "LightGBM models (memberscope[boost])",
    "xgboost": "XGBoost models (pip install xgboost, or xgboost-cpu)",
    "transformers": "Hugging Face classifiers (memberscope[hf])",
    "playwright": "PDF reports (memberscope[pdf], with Chromium or Chrome)",
    "keras": "Keras models (pip install keras, with torch or another backend)",
}
CORE = ("numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "skops")


def show_environment() -> None:
    """Show versions, extras, processors, disk, devices and precision."""
    from importlib.metadata import version

    print_line(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in ("memberscope", *CORE):
        print_line(f"ok       {name} {version(name)}")
    for name, use in EXTRAS.items():
        print_line(
            f"{'ok      ' if find_spec(name) else 'missing '} {name}{_find_extra_version(name)}: "
            f"{use}"
        )
    print_line(f"cores    {os.cpu_count()}")
    print_line(f"disk     {shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free in this folder")
    print_line(
        "writable "
        f"{'yes' if os.access(Path.cwd(), os.W_OK) else 'no: choose another folder with --out'}"
    )
    if find_spec("torch"):
        for line in _list_devices():
            print_line(line)


def _find_extra_version(name: str) -> str:
    """Find the version of an extra, if it is there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f" {version(name)}"
    except PackageNotFoundError:
        return ""


def _list_devices() -> list[str]:
    """List the accelerators that torch sees, each with the precisions it computes itself."""
    import torch

    found = [
        f"device   cpu, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        _describe_bfloat16("cpu"),
    ]
    for i in range(torch.cuda.device_count()):
        found += [
            f"device   cuda:{i} {torch.cuda.get_device_name(i)}",
            _describe_bfloat16(f"cuda:{i}"),
        ]
    return found


def _describe_bfloat16(device: str) -> str:
    """Say whether `--precision bfloat16` is any use on a device, by a measured product."""
    from memberscope.recipes import measure_product_rates

    rates = measure_product_rates(device)
    if rates.is_bfloat16_fast:
        return f"ok       bfloat16 on {device}: {rates}"
    return (
        f"missing  bfloat16 on {device}: emulated, {rates.float32 / rates.bfloat16:.0f} times "
        f"slower ({rates}); --precision bfloat16 is refused"
    )
