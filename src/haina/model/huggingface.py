"""The model folder: `config.json` and safetensors in, a `Transformer` out, and back.

The layout is Hugging Face's `LlamaForCausalLM`, which transformers, vLLM and llama.cpp's converter open
without custom code. Baichuan-7B's own layout, whose query, key and value matrices are fused into one
`W_pack`, is split on load. Pickled weights are refused: opening one runs whatever code is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from haina.model.config import ModelConfig
from haina.model.transformer import Transformer
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import atomic_path, read_json, remove, write_json

ARCHITECTURES = ("LlamaForCausalLM", "BaiChuanForCausalLM")
CONFIG_FILE, SINGLE_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 4 << 30
FUSED_QKV = "self_attn.W_pack.weight"

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`.

    Raises:
        HainaError: no folder or `config.json`, an architecture other than Llama's or Baichuan-7B's, or an
            option of theirs that changes the computation and that we do not have.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise HainaError(
            f"{folder}: not a model folder (no {CONFIG_FILE})", "name a folder in Hugging Face layout"
        )
    values = read_json(path)
    if not isinstance(values, dict):
        raise HainaError(f"{path}: not a JSON object", "restore the file from where it came")
    architectures = values.get("architectures") or ["(none)"]
    if architectures[0] not in ARCHITECTURES:
        raise HainaError(
            f"{path}: architecture {architectures[0]} is unknown",
            f"Haina opens {' and '.join(ARCHITECTURES)}",
        )
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    unsupported = {
        "hidden_act": values.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
        "rope_scaling": rope.get("rope_type", rope.get("type", "default")) != "default",
    }
    for option in (name for name, differs in unsupported.items() if differs):
        shown = rope if option == "rope_scaling" else values[option]
        raise HainaError(
            f"{path}: {option} = {shown} is not supported", "open this model with transformers or vLLM"
        )
    known = {name: values[name] for name in ModelConfig.model_fields if values.get(name) is not None}
    known["rope_theta"] = rope.get("rope_theta", values.get("rope_theta", 10000.0))
    # Absent means LlamaConfig's default here, not ours.
    known.setdefault("tie_word_embeddings", False)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token_id = known.get(name)
        known[name] = token_id[0] if isinstance(token_id, list) else token_id
    try:
        return ModelConfig(**known)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "config"
        raise HainaError(f"{path}: {field}: {first['msg']}", "restore the file from where it came") from error


def config_json(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """`config.json` of a `LlamaForCausalLM`, in the words that transformers 4 and 5 both read."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **config.model_dump(),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_scaling": None,
        "use_cache": True,
        "torch_dtype": _DTYPE_NAMES[dtype],
    }


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise HainaError(f"{index}: no weight_map", "restore the file from where it came")
        found = [folder / name for name in sorted(set(weight_map.values()))]
        for path in found:
            if not path.is_file():
                raise HainaError(
                    f"{path}: named in {INDEX_FILE} but missing", "fetch or copy the model again"
                )
        return found
    if single.is_file():
        return [single]
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
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name in sorted(file.keys()):
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise HainaError(
                f"{path}: damaged safetensors file ({error})", "fetch or copy the model again"
            ) from error


def _split_fused(name: str, tensor: Tensor, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Baichuan's W_pack [3 * hidden, hidden] holds query, key and value below one another."""
    if not name.endswith(FUSED_QKV):
        yield name, tensor
        return
    prefix = name.removesuffix("W_pack.weight")
    query, key_value = (
        heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    if tensor.shape[0] != query + 2 * key_value:
        raise HainaError(
            f"{name}: has {tensor.shape[0]} rows, expected {query + 2 * key_value}", "fetch the model again"
        )
    for part, piece in zip("qkv", tensor.split((query, key_value, key_value)), strict=True):
        yield f"{prefix}{part}_proj.weight", piece.clone()


def load(
    path: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Transformer:
    """Open a model folder.

    Args:
        path: folder with `config.json` and safetensors.
        device: where the weights go.
        dtype: of the weights; None keeps what the file has.

    Returns:
        the model, in evaluation mode.

    Raises:
        HainaError: the folder is not a model, is damaged or incomplete, or holds an architecture we do not
            have.
    """
    folder = Path(path)
    config = read_config(folder)
    with torch.device("meta"):
        model = Transformer(config)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for stored, tensor in read_tensors(folder):
        for name, weight in _split_fused(stored, tensor, config):
            if name.endswith("rotary_emb.inv_freq") or (
                name == "lm_head.weight" and config.tie_word_embeddings
            ):
                continue
            if name not in expected:
                raise HainaError(
                    f"{folder}: tensor {name} does not belong to this architecture", "check config.json"
                )
            if weight.shape != expected[name]:
                raise HainaError(
                    f"{folder}: tensor {name} has shape {list(weight.shape)}, "
                    f"config.json says {list(expected[name])}",
                    "fetch or copy the model again",
                )
            state[name] = weight.to(device=device, dtype=dtype or weight.dtype)
    missing = [name for name in expected if name not in state]
    if missing:
        raise HainaError(
            f"{folder}: tensor {missing[0]} is missing"
            + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            "fetch or copy the model again",
        )
    model.load_state_dict(state, strict=False, assign=True)
    # Assignment replaced the embedding parameter, so the head has to be pointed at it again.
    model.tie()
    return model.eval()


def _plan_shards(tensors: dict[str, Tensor], itemsize: int, max_shard_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = max_shard_bytes
    for name, tensor in tensors.items():
        size = tensor.numel() * itemsize
        if shards[-1] and size > room:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = tensor
        room -= size
    return shards


def save(
    model: Transformer,
    path: Path | str,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write `config.json` and the weights of `model` into folder `path`, in place of any that were there.

    A tied head is not written twice.

    Args:
        model: what to write.
        path: the folder; made when absent. Each file is replaced as a whole or not at all.
        dtype: of the stored weights.
        max_shard_bytes: size above which the weights are cut into several files.

    Raises:
        HainaError: the disk is full or the folder cannot be written.
    """
    folder = Path(path)
    with os_errors_about(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(model.named_parameters())
    shards = _plan_shards(tensors, dtype.itemsize, max_shard_bytes)
    names = [SINGLE_FILE]
    if len(shards) > 1:
        names = [
            f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)
        ]
    # From here to the end the folder is no model; weights of another cut must not lie beside the new ones.
    remove(folder / CONFIG_FILE)
    for stale in (folder / INDEX_FILE, *folder.glob("model*.safetensors")):
        if stale.name not in names:
            remove(stale)
    for name, shard in zip(names, shards, strict=True):
        stored = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in shard.items()}
        with atomic_path(folder / name) as temporary:
            try:
                save_file(stored, temporary, metadata={"format": "pt"})
                # safetensors makes private files; a model is as readable as the folder it is in.
                temporary.chmod(folder.stat().st_mode & 0o666)
            except SafetensorError as error:
                # The Rust writer hides the errno of a full disk in its message.
                raise HainaError(
                    f"{folder / name}: cannot write ({error})", "check free space and permissions"
                ) from error
    if len(shards) > 1:
        size = sum(tensor.numel() for tensor in tensors.values()) * dtype.itemsize
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        write_json(folder / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": weight_map})
    # Last: a folder with a config.json is a whole model.
    write_json(folder / CONFIG_FILE, config_json(model.config, dtype))
