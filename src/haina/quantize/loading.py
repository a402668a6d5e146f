"""Opens an INT4 folder: `compressed-tensors` in, a transformer whose linear layers compute on packed weights
out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from haina.model import Transformer, read_config
from haina.quantize.compressed_tensors import Int4Weight, read
from haina.quantize.int4 import dequantize
from haina.quantize.kernels import choose_kernel
from haina.quantize.linear import Int4Linear
from haina.runtime.errors import HainaError


def load(
    path: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Transformer:
    """Open an INT4 folder; no layer is ever held unpacked as a whole model.

    Args:
        path: folder of `haina quantize`, or another in compressed-tensors' symmetric 4-bit `pack-quantized`
            format.
        device: where to compute.
        dtype: of embeddings, norms, head and activations; None keeps what the file has.

    Returns:
        the model, in evaluation mode.

    Raises:
        HainaError: the folder is not such a model, is damaged, incomplete, or quantised otherwise.
    """
    folder, place = Path(path), torch.device(device)
    model, plain, packed = _read_checked(folder)
    kind = dtype or next((tensor.dtype for tensor in plain.values()), torch.float32)
    for name, weight in packed.items():
        rows, columns = weight.values.shape
        choice = choose_kernel(weight.values, weight.scales, place, kind)
        model.set_submodule(name.removesuffix(".weight"), Int4Linear(choice, columns, rows))
    return _finish(model, {name: tensor.to(device=place, dtype=kind) for name, tensor in plain.items()})


def load_dequantized(path: Path | str) -> Transformer:
    """Open an INT4 folder as an ordinary float32 transformer on the CPU, to be saved in another format.

    Raises:
        HainaError: as `load`.
    """
    model, plain, packed = _read_checked(Path(path))
    weights = {name: dequantize(weight.values, weight.scales) for name, weight in packed.items()}
    return _finish(model, weights | {name: tensor.float() for name, tensor in plain.items()})


def _read_checked(folder: Path) -> tuple[Transformer, dict[str, Tensor], dict[str, Int4Weight]]:
    """An empty model of the folder's shape, and all its tensors, none missing, foreign or misshapen."""
    config = read_config(folder)
    with torch.device("meta"):
        model = Transformer(config)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    plain: dict[str, Tensor] = {}
    packed: dict[str, Int4Weight] = {}
    for name, tensor in read(folder):
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        shape = tensor.values.shape if isinstance(tensor, Int4Weight) else tensor.shape
        if name not in expected:
            raise HainaError(
                f"{folder}: tensor {name} does not belong to this architecture", "check config.json"
            )
        if shape != expected[name]:
            raise HainaError(
                f"{folder}: tensor {name} has shape {list(shape)}, config.json says {list(expected[name])}",
                "copy or quantise the model again",
            )
        if isinstance(tensor, Int4Weight):
            packed[name] = tensor
        else:
            plain[name] = tensor
    missing = [name for name in expected if name not in plain and name not in packed]
    if missing:
        raise HainaError(f"{folder}: tensor {missing[0]} is missing", "copy or quantise the model again")
    return model, plain, packed


def _finish(model: Transformer, state: dict[str, Tensor]) -> Transformer:
    model.load_state_dict(state, strict=False, assign=True)
    model.tie()
    return model.eval().requires_grad_(False)
