"""What `config.json` says about a model: an architecture's words in, a shape out, and back.

Three families share one computation: Llama (arXiv 2302.13971) as it is, Baichuan-7B with query, key and value in one
`W_pack`, Baichuan 2-7B (arXiv 2309.10305) with a normalised head besides, and Qwen3 (arXiv 2505.09388) with QK-norm.
What would change the computation in a way that we do not have is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from haina.model.config import ModelConfig
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json

CONFIG_FILE = "config.json"
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
ELSEWHERE = "open this model with transformers or vLLM"


@dataclass(frozen=True)
class Family:
    """What the name of an architecture adds to its `config.json`.

    Attributes:
        fixed: fields of the shape that follow from the name.
        defaults: fields of `config.json` that may be absent, as the family's own configuration class has them.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


# Defaults are those of LlamaConfig and Qwen3Config in transformers, and of Baichuan's configuration_baichuan.py.
FAMILIES = {
    "LlamaForCausalLM": Family(defaults={"max_position_embeddings": 2048}),
    "Qwen3ForCausalLM": Family(
        fixed={"qk_norm": True},
        defaults={"max_position_embeddings": 32768, "head_dim": 128, "num_key_value_heads": 32},
    ),
    "BaiChuanForCausalLM": Family(defaults={"max_position_embeddings": 4096}),
    "BaichuanForCausalLM": Family(fixed={"normalized_head": True}),
}


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`.

    Raises:
        HainaError: no folder or `config.json`, an architecture that is not in `FAMILIES`, or an option of theirs that
            changes the computation and that we do not have.
    """
    path = Path(folder) / CONFIG_FILE
    with os_errors_about(folder):
        found = path.is_file()
    if not found:
        raise HainaError(
            f"{folder}: not a model folder (no {CONFIG_FILE})", "name a folder in Hugging Face layout"
        )
    values = read_json(path)
    if not isinstance(values, dict):
        raise HainaError(f"{path}: not a JSON object", "restore the file from where it came")
    named = values.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else "(none)"
    if architecture not in FAMILIES:
        raise HainaError(
            f"{path}: architecture {architecture} is unknown", f"Haina opens {', '.join(FAMILIES)}"
        )
    _refuse_unsupported(path, architecture, values)
    absent = [name for name in SIZES if values.get(name) is None]
    if absent:
        raise HainaError(f"{path}: {absent[0]} is missing", "restore the file from where it came")
    try:
        return ModelConfig(**_shape(FAMILIES[architecture], values))
    except ValidationError as error:
        first = error.errors()[0]
        field_name = ".".join(str(part) for part in first["loc"]) or "config"
        raise HainaError(
            f"{path}: {field_name}: {first['msg']}", "restore the file from where it came"
        ) from error


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary options: `rope_parameters` of transformers 5, `rope_scaling` of 4."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return rope if isinstance(rope, dict) else {"rope_type": rope}


def _refuse_unsupported(path: Path, architecture: str, values: Mapping[str, Any]) -> None:
    # Baichuan-13B and Baichuan 2-13B share the architecture name of Baichuan 2-7B. Their configuration has
    # model_max_length where the 7B has max_position_embeddings, and they are 5120 wide.
    if architecture == "BaichuanForCausalLM" and (
        values.get("max_position_embeddings") is None or values.get("hidden_size") == 5120
    ):
        raise HainaError(
            f"{path}: a 13B Baichuan, whose positions are ALiBi and not rotary, is not supported", ELSEWHERE
        )
    rope = _rope(values)
    layers = values.get("layer_types") or ["full_attention"]
    kinds = sorted({str(kind) for kind in layers}) if isinstance(layers, list) else layers
    sliding = bool(values.get("use_sliding_window")) and not values.get("layer_types")
    unsupported = {
        "hidden_act": (values.get("hidden_act", "silu"), "silu"),
        "attention_bias": (bool(values.get("attention_bias")), False),
        "mlp_bias": (bool(values.get("mlp_bias")), False),
        "rope_scaling": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
        "layer_types": (kinds, ["full_attention"]),
        "use_sliding_window": (sliding, False),
    }
    for option, (given, wanted) in unsupported.items():
        if given != wanted:
            shown = dict(rope) if option == "rope_scaling" else given
            raise HainaError(f"{path}: {option} = {shown} is not supported", ELSEWHERE)


def _shape(family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ModelConfig`. An absent size means the family's default, not ours; an absent special id, none."""
    known = {
        name: values[name]
        for name in ModelConfig.model_fields
        if name not in ("qk_norm", "normalized_head") and values.get(name) is not None
    }
    rope = _rope(values)
    known["rope_theta"] = rope.get("rope_theta", values.get("rope_theta", 10000.0))
    known.setdefault("tie_word_embeddings", False)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token_id = known.get(name)
        token_id = token_id[0] if isinstance(token_id, list) and token_id else token_id
        # The first Llama conversions write -1 for "none".
        known[name] = None if token_id in (-1, []) else token_id
    return {**family.defaults, **known, **family.fixed}


def config_json(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """`config.json` in the words that transformers 4 and 5 both read.

    A `LlamaForCausalLM`; with QK-norm a `Qwen3ForCausalLM`. A normalised head has no word of its own: it is
    stored with its rows normalised.
    """
    shape = config.model_dump(exclude={"qk_norm", "normalized_head"})
    common = {
        **shape,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_scaling": None,
        "use_cache": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if config.qk_norm:
        own = {"use_sliding_window": False, "sliding_window": None}
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **common, **own}
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **common, "mlp_bias": False}


def check_tokenizer(folder: Path, config: ModelConfig) -> None:
    """Refuse a folder whose `tokenizer.json` has ids that the embedding has no row for.

    Raises:
        HainaError: it has.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    values = read_json(path)
    if not isinstance(values, dict):
        raise HainaError(f"{path}: not a JSON object", "put the tokenizer of this model into the folder")
    model, added = values.get("model"), values.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    found: list[object] = []
    if isinstance(vocabulary, dict):
        found += vocabulary.values()
    elif isinstance(vocabulary, list):
        # A Unigram vocabulary: piece and score, the place is the id.
        found.append(len(vocabulary) - 1)
    if isinstance(added, list):
        found += [token.get("id") for token in added if isinstance(token, dict)]
    ids = [token_id for token_id in found if isinstance(token_id, int)]
    if ids and max(ids) >= config.vocab_size:
        raise HainaError(
            f"{path}: the tokenizer has {max(ids) + 1} ids, the model {config.vocab_size}",
            "put the tokenizer of this model into the folder",
        )
