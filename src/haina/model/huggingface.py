"""The model folder: `config.json` and safetensors in, a `Transformer` out, and back.

The layout is that of Hugging Face's `LlamaForCausalLM`, or `Qwen3ForCausalLM` for a model with QK-norm, which
transformers, vLLM and llama.cpp's converter open without custom code. Baichuan's own layouts are opened too
(`families.py`). Every tensor is read straight into its parameter and written from it, a slice at a time. Pickled
weights are refused: opening one runs whatever code is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from haina.model.config import ModelConfig
from haina.model.families import CONFIG_FILE, check_tokenizer, config_json, read_config
from haina.model.head import normalize_rows
from haina.model.tensor_files import Outgoing, StoredTensor, new_scratch, shown, stored_tensors, write_tensors
from haina.model.transformer import Transformer
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import PARTIAL_SUFFIX, fsync_path, read_json, remove, write_json

__all__ = ["CONFIG_FILE", "SINGLE_FILE", "config_json", "load", "read_config", "read_tensors", "save"]

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 4 << 30
FUSED_QKV = "self_attn.W_pack.weight"
WEIGHT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
QUANTIZED_SUFFIXES = (".weight_packed", ".weight_scale", ".qweight", ".SCB")


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the one, which goes first as in transformers, or those of the index."""
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        return [single]
    if index.is_file():
        description = read_json(index)
        weight_map = description.get("weight_map") if isinstance(description, dict) else None
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise HainaError(f"{index}: no weight_map", "restore the file from where it came")
        names = sorted(set(weight_map.values()))
        for name in names:
            # A path would have us read files that are no part of the model.
            if not name.isprintable() or Path(name).name != name:
                raise HainaError(
                    f"{index}: {name!r} is no name of a file in this folder", "fetch or copy the model again"
                )
            with os_errors_about(index):
                missing = not (folder / name).is_file()
            if missing:
                raise HainaError(
                    f"{folder / name}: named in {INDEX_FILE} but missing", "fetch or copy the model again"
                )
        return [folder / name for name in names]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise HainaError(
            f"{folder / pickled[0]}: pickled weights are not opened, they can run any code",
            "convert them to safetensors first, with transformers' save_pretrained on a machine you can lose",
        )
    raise HainaError(f"{folder}: no {SINGLE_FILE} or {INDEX_FILE}", "fetch or copy the model again")


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and CPU tensors of all safetensors files of a model folder, one at a time, in a fixed order.

    Raises:
        HainaError: a file is missing, damaged, or there are only pickled weights.
    """
    for path in _weight_files(Path(folder)):
        for stored in stored_tensors(path):
            yield stored.name, stored.read()


def _split_fused(stored: StoredTensor, config: ModelConfig) -> Iterator[StoredTensor]:
    """Baichuan's W_pack [3 * hidden, hidden] holds query, key and value below one another."""
    if not stored.name.endswith(FUSED_QKV):
        yield stored
        return
    query, key_value = (
        heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    rows = query + 2 * key_value
    if stored.shape != (rows, config.hidden_size):
        raise HainaError(
            f"{stored.path}: tensor {shown(stored.name)} has shape {list(stored.shape)}, "
            f"config.json says {[rows, config.hidden_size]}",
            "fetch or copy the model again",
        )
    prefix = stored.name.removesuffix("W_pack.weight")
    borders = (0, query, query + key_value, rows)
    for part, first, last in zip("qkv", borders[:-1], borders[1:], strict=True):
        yield stored.rows(f"{prefix}{part}_proj.weight", first, last)


def _sources(
    folder: Path, config: ModelConfig, expected: Mapping[str, torch.Size]
) -> dict[str, StoredTensor]:
    """Where the value of every parameter lies. Whatever is wrong with a folder shows here, before a weight is read."""
    sources: dict[str, StoredTensor] = {}
    for path in _weight_files(folder):
        for whole in stored_tensors(path):
            for stored in _split_fused(whole, config):
                name = stored.name
                if name.endswith("rotary_emb.inv_freq") or (
                    name == "lm_head.weight" and config.tie_word_embeddings
                ):
                    continue
                if name not in expected:
                    quantized = name.endswith(QUANTIZED_SUFFIXES)
                    raise HainaError(
                        f"{path}: tensor {shown(name)} does not belong to this architecture",
                        "open quantised weights with haina.quantize.load"
                        if quantized
                        else "check config.json",
                    )
                if stored.shape != tuple(expected[name]):
                    raise HainaError(
                        f"{path}: tensor {name} has shape {list(stored.shape)}, "
                        f"config.json says {list(expected[name])}",
                        "fetch or copy the model again",
                    )
                if stored.dtype not in WEIGHT_DTYPES:
                    raise HainaError(
                        f"{path}: tensor {name} holds {stored.dtype}, not plain weights",
                        "open this model with transformers or vLLM",
                    )
                if name in sources:
                    raise HainaError(
                        f"{path}: tensor {name} is also in {sources[name].path.name}",
                        "fetch or copy the model again",
                    )
                sources[name] = stored
    missing = [name for name in expected if name not in sources]
    if missing:
        raise HainaError(
            f"{folder}: tensor {missing[0]} is missing"
            + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            "fetch or copy the model again",
        )
    return sources


def load(
    path: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Transformer:
    """Open a model folder; the memory needed is that of the weights and one slice.

    Args:
        path: folder with `config.json` and safetensors.
        device: where the weights go.
        dtype: of the weights; None keeps what the file has.

    Returns:
        the model, in evaluation mode.

    Raises:
        HainaError: the folder is not a model, is damaged or incomplete, holds an architecture we do not have, or
            its tokenizer has more ids than the model.
    """
    folder = Path(path)
    config = read_config(folder)
    check_tokenizer(folder, config)
    with torch.device("meta"):
        model = Transformer(config)
    sources = _sources(folder, config, {name: value.shape for name, value in model.named_parameters()})
    state: dict[str, Tensor] = {}
    scratch = new_scratch()
    for name, stored in sorted(sources.items(), key=lambda item: (item[1].path, item[1].offset)):
        state[name] = torch.empty(stored.shape, dtype=dtype or stored.dtype, device=device)
        stored.read_into(state[name], scratch)
    model.load_state_dict(state, strict=False, assign=True)
    # Assignment replaced the embedding parameter, so the head has to be pointed at it again.
    model.tie()
    return model.eval()


def _plan_shards(tensors: Mapping[str, Outgoing], max_shard_bytes: int) -> dict[str, dict[str, Outgoing]]:
    """File name to what it holds."""
    shards: list[dict[str, Outgoing]] = [{}]
    room = max_shard_bytes
    for name, outgoing in tensors.items():
        if shards[-1] and outgoing.nbytes > room:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = outgoing
        room -= outgoing.nbytes
    if len(shards) == 1:
        return {SINGLE_FILE: shards[0]}
    return {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }


def _outgoing(model: Transformer, dtype: torch.dtype) -> dict[str, Outgoing]:
    with torch.device("meta"):
        expected = [name for name, _ in Transformer(model.config).named_parameters()]
    found = dict(model.named_parameters())
    missing = [name for name in expected if name not in found]
    if missing:
        raise HainaError(
            f"the model has no {missing[0]} to save: its matrices are quantised",
            "save the model that it was quantised from",
        )
    tensors = {name: Outgoing(found[name], dtype) for name in expected}
    if model.config.normalized_head:
        tensors["lm_head.weight"] = Outgoing(model.lm_head.weight, dtype, normalize_rows)
    return tensors


def save(
    model: Transformer,
    path: Path | str,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write `config.json` and the weights of `model` into folder `path`, in place of any that were there.

    A tied head is not written twice; a normalised head is written with its rows normalised. A model that was there
    stays whole until the new one is on the disk; the memory needed is one slice.

    Args:
        model: what to write.
        path: the folder; made when absent.
        dtype: of the stored weights.
        max_shard_bytes: size above which the weights are cut into several files.

    Raises:
        HainaError: the disk is full or the folder cannot be written, or the model is a quantised one.
    """
    folder = Path(path)
    tensors = _outgoing(model, dtype)
    shards = _plan_shards(tensors, max_shard_bytes)
    # A fixed name: a killed run leaves at most one, and the next run replaces it.
    staged = folder / f"weights{PARTIAL_SUFFIX}"
    remove(staged)
    try:
        with os_errors_about(folder):
            staged.mkdir(parents=True)
        for name, shard in shards.items():
            write_tensors(staged / name, shard)
            with os_errors_about(folder):
                fsync_path(staged / name)
        if len(shards) > 1:
            size = sum(outgoing.nbytes for outgoing in tensors.values())
            weight_map = {key: name for name, shard in shards.items() for key in shard}
            write_json(staged / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": weight_map})
        write_json(staged / CONFIG_FILE, config_json(model.config, dtype))
        _exchange(folder, staged)
    finally:
        remove(staged)


def _exchange(folder: Path, staged: Path) -> None:
    """Put the new files in the place of the old ones. From the first removal to the last move the folder is no model:
    one with a `config.json` is whole.
    """
    for stale in (folder / CONFIG_FILE, folder / INDEX_FILE, *folder.glob("model*.safetensors")):
        remove(stale)
    with os_errors_about(folder):
        for path in sorted(staged.iterdir()):
            if path.name != CONFIG_FILE:
                path.replace(folder / path.name)
        fsync_path(folder)
        (staged / CONFIG_FILE).replace(folder / CONFIG_FILE)
        fsync_path(folder)
