"""The INT4 folder: names, shapes and `quantization_config` of compressed-tensors' `pack-quantized` format.

transformers and vLLM open it without custom code. A quantised layer NAME is kept as NAME.weight_packed
(int32, see `int4.pack`), NAME.weight_scale (bfloat16 [out, groups]) and NAME.weight_shape (int64 [2]);
everything else as usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from haina.model import ModelConfig
from haina.model.huggingface import CONFIG_FILE, SINGLE_FILE, config_json, read_tensors
from haina.quantize.int4 import VALUES_PER_WORD, pack, unpack
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path, read_json, write_json

PACKED, SCALE, SHAPE = "weight_packed", "weight_scale", "weight_shape"
IGNORED = ("lm_head",)
# 15 * 32767 * this many products still fit the 32-bit sums of the packed dot product.
_LARGEST_GROUP = 1024


def quantization_config(group_size: int) -> dict[str, Any]:
    """`quantization_config` of `config.json` for symmetric 4-bit weights in groups."""
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": group_size,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "ignore": list(IGNORED),
        "kv_cache_scheme": None,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": None,
                "output_activations": None,
            }
        },
    }


def is_quantized(folder: Path) -> bool:
    """Whether a folder's `config.json` announces quantised weights; a missing file is for the loader to
    report."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        return False
    config = read_json(path)
    return isinstance(config, dict) and bool(config.get("quantization_config"))


def read_group_size(folder: Path) -> int:
    """The group size of an INT4 folder.

    Raises:
        HainaError: its quantisation is of a kind we do not compute with.
    """
    path = Path(folder) / CONFIG_FILE
    config = read_json(path).get("quantization_config") or {}
    groups = list((config.get("config_groups") or {}).values())
    weights = (groups[0].get("weights") or {}) if len(groups) == 1 else {}
    wanted = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    seen = {name: weights.get(name) for name in wanted}
    size = weights.get("group_size")
    known = (config.get("quant_method"), config.get("format")) == ("compressed-tensors", "pack-quantized")
    fits = isinstance(size, int) and 0 < size <= _LARGEST_GROUP and size % VALUES_PER_WORD == 0
    if (
        not known
        or seen != wanted
        or not fits
        or not isinstance(size, int)
        or groups[0].get("input_activations")
    ):
        shown = f"{config.get('quant_method')} {config.get('format')} {seen | {'group_size': size}}"
        raise HainaError(
            f"{path}: quantisation {shown} is not supported",
            "Haina opens compressed-tensors pack-quantized with symmetric 4-bit groups",
        )
    return size


@dataclass(frozen=True)
class Int4Weight:
    """One quantised matrix.

    Attributes:
        values: int8 [out, in] in -8..7; scales: bfloat16 [out, groups].
    """

    values: Tensor
    scales: Tensor


def to_tensors(name: str, weight: Int4Weight) -> dict[str, Tensor]:
    """What is stored for layer `name`."""
    return {
        f"{name}.{PACKED}": pack(weight.values),
        f"{name}.{SCALE}": weight.scales.to(torch.bfloat16).contiguous(),
        f"{name}.{SHAPE}": torch.tensor(weight.values.shape, dtype=torch.int64),
    }


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One safetensors file, whole or absent; the same tensors give the same bytes."""
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt"})
            # safetensors creates files that only their owner may read; a model is as readable as its config.
            temporary.chmod(0o644)
        except SafetensorError as error:
            raise HainaError(f"{path}: cannot write ({error})", "check free space and permissions") from error


def write(folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor], group_size: int) -> None:
    """Weights and `config.json` of an INT4 folder."""
    write_tensors(folder / SINGLE_FILE, tensors)
    described = config_json(config, torch.bfloat16) | {"quantization_config": quantization_config(group_size)}
    write_json(folder / CONFIG_FILE, described)


def read(folder: Path) -> Iterator[tuple[str, Tensor | Int4Weight]]:
    """Everything in an INT4 folder: full tensors by their name, quantised layers as NAME.weight.

    Raises:
        HainaError: the folder is damaged, incomplete, or quantised in a way we do not compute with.
    """
    group_size = read_group_size(folder)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder):
        layer, _, kind = name.rpartition(".")
        if kind in {"weight_g_idx", "weight_zero_point"}:
            raise HainaError(
                f"{folder}: {name}: reordered or asymmetric weights are not supported", "use vLLM for it"
            )
        if kind not in {PACKED, SCALE, SHAPE}:
            yield name, tensor
            continue
        found = parts.setdefault(layer, {})
        found[kind] = tensor
        if len(found) == 3:
            yield f"{layer}.weight", _assemble(folder, layer, parts.pop(layer), group_size)
    if parts:
        layer, found = next(iter(parts.items()))
        missing = next(kind for kind in (PACKED, SCALE, SHAPE) if kind not in found)
        raise HainaError(f"{folder}: tensor {layer}.{missing} is missing", "copy or quantise the model again")


def _assemble(folder: Path, layer: str, found: Mapping[str, Tensor], group_size: int) -> Int4Weight:
    rows, columns = (int(size) for size in found[SHAPE].tolist())
    packed, scales = found[PACKED], found[SCALE]
    expected = (rows, columns // VALUES_PER_WORD), (rows, columns // group_size)
    if (
        (tuple(packed.shape), tuple(scales.shape)) != expected
        or columns % group_size
        or packed.dtype != torch.int32
    ):
        raise HainaError(
            f"{folder}: {layer}: packed {list(packed.shape)} and scales {list(scales.shape)} do not "
            f"fit a weight of {[rows, columns]} in groups of {group_size}",
            "copy or quantise the model again",
        )
    return Int4Weight(unpack(packed), scales)
