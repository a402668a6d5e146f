"""INT4 weights: a model folder in, a `compressed-tensors` folder out, and a transformer that computes on it
packed.

`haina.quantize.load(folder)` opens such a folder. torch and numba are imported on first use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from haina.quantize.config import QuantizeConfig
from haina.runtime.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from haina.quantize.compressed_tensors import is_quantized
    from haina.quantize.int4 import dequantize, quantize
    from haina.quantize.linear import Int4Linear, describe_kernels
    from haina.quantize.loading import load, load_dequantized

use_kernel_cache()

__all__ = [
    "Int4Linear",
    "QuantizeConfig",
    "dequantize",
    "describe_kernels",
    "is_quantized",
    "load",
    "load_dequantized",
    "quantize",
]

_HOME = {
    "Int4Linear": "haina.quantize.linear",
    "dequantize": "haina.quantize.int4",
    "describe_kernels": "haina.quantize.linear",
    "is_quantized": "haina.quantize.compressed_tensors",
    "load": "haina.quantize.loading",
    "load_dequantized": "haina.quantize.loading",
    "quantize": "haina.quantize.int4",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
