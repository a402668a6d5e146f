"""What is damaged, foreign or not ours to compute is refused in one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import haina.model
from haina.model import read_config
from haina.model.families import check_tokenizer, config_json
from haina.runtime.errors import HainaError

from .tiny import build, write_baichuan

Damage = Callable[[Path], object]


def config_with(**changes: Any) -> Damage:
    """Other words in config.json; None takes a word out."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        kept = {name: value for name, value in values.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return damage


def tensors_with(edit: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Other tensors in the one file."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def in_shards(damage: Damage) -> Damage:
    """The same model in several files first."""

    def both(folder: Path) -> None:
        haina.model.save(haina.model.load(folder), folder, max_shard_bytes=20_000)
        damage(folder)

    return both


def tokenizer_with(size: int, added: int) -> Damage:
    """A tokenizer.json of that many pieces and an added token of that id."""

    def damage(folder: Path) -> None:
        vocabulary = {f"piece{number}": number for number in range(size)}
        values = {
            "model": {"type": "BPE", "vocab": vocabulary},
            "added_tokens": [{"id": added, "content": "<x>"}],
        }
        (folder / "tokenizer.json").write_text(json.dumps(values))

    return damage


def cut(name: str, share: float) -> Damage:
    """The first part of a file."""

    def damage(folder: Path) -> None:
        path = sorted(folder.glob(name))[0]
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return damage


def _shard(folder: Path, number: int) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[number]


def index_of(name: str) -> Damage:
    """The one file is gone; an index names this one instead."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        text = json.dumps({"weight_map": {"model.norm.weight": name}})
        (folder / "model.safetensors.index.json").write_text(text)

    return damage


def _whole_model_beside(folder: Path) -> None:
    """A folder whose index leads to weights that fit, in a folder next to it."""
    haina.model.save(build(), folder / "beside")
    index_of("beside/model.safetensors")(folder)


def _repeat_tensor(folder: Path) -> None:
    first, second = load_file(_shard(folder, 0)), load_file(_shard(folder, 1))
    name = sorted(first)[0]
    save_file(second | {name: first[name]}, _shard(folder, 1))


KINDS: dict[str, tuple[Damage, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "not a model folder"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
    "other architecture": (config_with(architectures=["GPT2LMHeadModel"]), "GPT2LMHeadModel is unknown"),
    "no architecture": (config_with(architectures=None), "(none) is unknown"),
    "Baichuan 13B by width": (
        config_with(architectures=["BaichuanForCausalLM"], hidden_size=5120),
        "a 13B Baichuan, whose positions are ALiBi",
    ),
    "Baichuan 13B by its words": (
        config_with(
            architectures=["BaichuanForCausalLM"], max_position_embeddings=None, model_max_length=4096
        ),
        "a 13B Baichuan, whose positions are ALiBi",
    ),
    "scaled positions": (config_with(rope_scaling={"type": "linear", "factor": 2.0}), "rope_scaling"),
    "scaled positions, new words": (
        config_with(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        "yarn",
    ),
    "Llama 3.1's positions": (
        config_with(rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        "'rope_type': 'llama3'",
    ),
    "partial rotation": (
        config_with(rope_parameters={"partial_rotary_factor": 0.5}),
        "partial_rotary_factor",
    ),
    "nonsense positions": (config_with(rope_scaling="yes"), "rope_scaling"),
    "biases": (config_with(attention_bias=True), "attention_bias"),
    "biases in the feed-forward": (config_with(mlp_bias=True), "mlp_bias"),
    "other activation": (config_with(hidden_act="gelu"), "gelu"),
    "impossible size": (config_with(num_key_value_heads=3), "num_key_value_heads 3"),
    "a size of another kind": (config_with(hidden_size="wide"), "hidden_size"),
    "a size that is not said": (config_with(vocab_size=None), "vocab_size is missing"),
    "padding outside the vocabulary": (config_with(pad_token_id=120), "pad_token_id 120"),
    "a vocabulary past counting": (config_with(vocab_size=1 << 62), "vocab_size: Input should be less"),
    "a width past 64 bits": (config_with(hidden_size=1 << 70), "hidden_size: Input should be less"),
    "a feed-forward past counting": (config_with(intermediate_size=1 << 62), "intermediate_size: Input"),
    "a head past counting": (config_with(head_dim=1 << 60), "head_dim: Input should be less"),
    "more layers than memory": (config_with(num_hidden_layers=10**9), "num_hidden_layers: Input should be"),
    "not a number": (config_with(rms_norm_eps=float("nan")), "rms_norm_eps: Input should be"),
    "a negative base": (config_with(rope_theta=-1.0), "rope_theta: Input should be"),
    "other size": (config_with(intermediate_size=80), "has shape [32, 72], config.json says [32, 80]"),
    "one layer more": (config_with(num_hidden_layers=4), "layers.3"),
    "one layer less": (config_with(num_hidden_layers=2), "does not belong"),
    "missing tensor": (
        tensors_with(lambda tensors: tensors.pop("model.norm.weight")),
        "model.norm.weight is missing",
    ),
    "extra tensor": (
        tensors_with(lambda tensors: tensors.update({"model.extra.weight": torch.ones(3)})),
        "tensor model.extra.weight does not belong",
    ),
    "integers": (
        tensors_with(lambda tensors: tensors.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)})),
        "model.norm.weight holds torch.int8",
    ),
    "eight-bit floats": (
        tensors_with(
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(32).to(torch.float8_e4m3fn)})
        ),
        "model.norm.weight holds torch.float8_e4m3fn",
    ),
    "a name that would write on the terminal": (
        tensors_with(lambda tensors: tensors.update({"a\n\x1b[31m": torch.ones(3)})),
        r"tensor 'a\n\x1b[31m' does not belong",
    ),
    "quantised": (
        tensors_with(
            lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.weight_packed": torch.ones(3)})
        ),
        "haina.quantize.load",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "pickled weights are not opened",
    ),
    "half a file": (cut("model.safetensors", 0.5), "damaged safetensors"),
    "most of a file": (cut("model.safetensors", 0.999), "damaged safetensors"),
    "an empty file": (cut("model.safetensors", 0.0), "damaged safetensors"),
    "garbage": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        "damaged safetensors",
    ),
    "missing shard": (
        in_shards(lambda folder: _shard(folder, 1).unlink()),
        "named in model.safetensors.index.json but missing",
    ),
    "half a shard": (in_shards(cut("model-*.safetensors", 0.5)), "damaged safetensors"),
    "a tensor in two shards": (in_shards(_repeat_tensor), "is also in model-00001-of"),
    "an index without a map": (
        in_shards(lambda folder: (folder / "model.safetensors.index.json").write_text("[]")),
        "no weight_map",
    ),
    "an index of numbers": (
        in_shards(
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')
        ),
        "no weight_map",
    ),
    "an index that leads elsewhere": (_whole_model_beside, "'beside/model.safetensors' is no name of a file"),
    "an index that leads up": (index_of("../model.safetensors"), "'../model.safetensors' is no name"),
    "an index that leads anywhere": (index_of("/etc/passwd"), "'/etc/passwd' is no name"),
    "an index that names the folder": (index_of("."), "'.' is no name"),
    "an index that names nothing": (index_of(""), "named in model.safetensors.index.json but missing"),
    "an index with a zero byte": (index_of("a\0b"), r"'a\x00b' is no name"),
    "an index with an endless name": (index_of("x" * 5000), "File name too long"),
    "a larger tokenizer": (
        tokenizer_with(130, 3),
        "tokenizer.json: the tokenizer has 130 ids, the model 120",
    ),
    "an added token too many": (
        tokenizer_with(120, 120),
        "tokenizer.json: the tokenizer has 121 ids, the model 120",
    ),
    "a tokenizer that is none": (
        lambda folder: (folder / "tokenizer.json").write_text("[1]"),
        "not a JSON object",
    ),
}


def _refused(folder: Path, message: str) -> None:
    with pytest.raises(HainaError) as caught:
        haina.model.load(folder)
    assert message in str(caught.value)
    assert str(folder) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folder_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    damage, message = KINDS[kind]
    haina.model.save(build(), tmp_path)
    haina.model.load(tmp_path)
    damage(tmp_path)
    _refused(tmp_path, message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (config_with(use_sliding_window=True, sliding_window=32), "use_sliding_window"),
        (
            config_with(layer_types=["full_attention", "sliding_attention", "full_attention"]),
            "sliding_attention",
        ),
        (config_with(head_dim=None), "k_norm.weight has shape [8], config.json says [128]"),
        (config_with(architectures=["LlamaForCausalLM"]), "k_norm.weight does not belong"),
    ],
)
def test_damaged_qwen3_folder_is_refused_by_name(damage: Damage, message: str, tmp_path: Path) -> None:
    haina.model.save(build(qk_norm=True), tmp_path)
    damage(tmp_path)
    _refused(tmp_path, message)


def test_a_fused_matrix_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    write_baichuan(build(tie_word_embeddings=False), tmp_path, "BaiChuanForCausalLM")
    name = "model.layers.2.self_attn.W_pack.weight"
    tensors_with(lambda tensors: tensors.update({name: tensors[name][:90].clone()}))(tmp_path)
    _refused(tmp_path, f"{name} has shape [90, 32], config.json says [96, 32]")


CONFIG = build().config
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
WORDS = st.sampled_from(
    [
        *("architectures", "layer_types", "rope_scaling", "rope_parameters", "rope_theta", "eos_token_id"),
        *("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act"),
        *("tie_word_embeddings", "max_position_embeddings", "use_sliding_window", "attention_bias"),
    ]
)


@given(
    st.dictionaries(WORDS, JSON, max_size=3),
    st.sampled_from(["LlamaForCausalLM", "Qwen3ForCausalLM", "BaichuanForCausalLM"]),
)
def test_no_words_of_a_config_are_a_fault_of_ours(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], architecture: str
) -> None:
    folder = tmp_path_factory.mktemp("words")
    described = config_json(CONFIG, torch.float32) | {"architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(described | changes))
    with suppress(HainaError):
        assert read_config(folder).parameter_count > 0


@given(JSON, JSON, JSON)
def test_no_tokenizer_file_is_a_fault_of_ours(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: Any, added: Any, model: Any
) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    for values in ({"model": {"vocab": vocabulary}, "added_tokens": added}, {"model": model}, added):
        (folder / "tokenizer.json").write_text(json.dumps(values))
        with suppress(HainaError):
            check_tokenizer(folder, CONFIG)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="not a model folder"):
        haina.model.load(tmp_path / "nowhere")
    with pytest.raises(HainaError, match="File name too long"):
        haina.model.load("模型" * 2000)


def test_one_file_goes_before_an_index(tmp_path: Path) -> None:
    """As in transformers: the index may be left over from another model."""
    haina.model.save(build(), tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    haina.model.load(tmp_path)


def test_words_of_other_peoples_folders_are_understood(tmp_path: Path) -> None:
    haina.model.save(build(), tmp_path / "llama")
    # The first Llama conversions; ids in lists, as Llama 3's.
    config_with(
        pad_token_id=-1, eos_token_id=[5, 6], rope_theta=None, head_dim=None, num_key_value_heads=None
    )(tmp_path / "llama")
    config = read_config(tmp_path / "llama")
    assert (config.pad_token_id, config.eos_token_id, config.rope_theta) == (None, 5, 10000.0)
    assert (config.head_dim, config.num_key_value_heads) == (8, 4)
    haina.model.save(build(qk_norm=True, tie_word_embeddings=False), tmp_path / "qwen3")
    # Qwen3 as it was published, and as transformers 5 writes it.
    config_with(
        use_sliding_window=False,
        sliding_window=None,
        max_window_layers=28,
        layer_types=["full_attention"] * 3,
        rope_theta=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )(tmp_path / "qwen3")
    config = read_config(tmp_path / "qwen3")
    assert config.qk_norm
    assert config.rope_theta == 1e6
    assert not config.tie_word_embeddings
    haina.model.load(tmp_path / "qwen3")


def test_a_tokenizer_that_fits_is_no_obstacle(tmp_path: Path) -> None:
    haina.model.save(build(), tmp_path)
    tokenizer_with(100, 119)(tmp_path)
    haina.model.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": [["a", 0.0]]}, "added_tokens": null}')
    haina.model.load(tmp_path)
