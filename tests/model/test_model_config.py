"""Shapes: presets are exact, sizes that do not fit are named, and reading them needs no torch."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from haina.model import ModelConfig, preset, preset_names
from haina.runtime.errors import HainaError

# As published: parameters, layers, width, feed-forward, heads, key/value heads, vocabulary, window, epsilon, theta.
PUBLISHED = {
    "baichuan-7b": (7_000_559_616, 32, 4096, 11008, 32, 32, 64000, 4096, 1e-6, 1e4),
    "baichuan2-7b": (7_505_973_248, 32, 4096, 11008, 32, 32, 125696, 4096, 1e-6, 1e4),
    "llama-2-7b": (6_738_415_616, 32, 4096, 11008, 32, 32, 32000, 4096, 1e-5, 1e4),
    "llama-3-8b": (8_030_261_248, 32, 4096, 14336, 32, 8, 128256, 8192, 1e-5, 5e5),
}
LADDER = ["1m", "3m", "7m", "15m", "30m", "60m", "100m", "300m", "1b", "3b", "7b"]
VOCABULARY = dict(zip(LADDER, [4096, *[8192] * 3, *[16384] * 2, 32000, *[64000] * 4], strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_are_exact(name: str) -> None:
    config = preset(name)
    assert PUBLISHED[name] == (
        config.parameter_count,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
        config.max_position_embeddings,
        config.rms_norm_eps,
        config.rope_theta,
    )
    assert config.head_dim == 128
    assert not config.tie_word_embeddings
    assert not config.qk_norm
    assert config.normalized_head == (name == "baichuan2-7b")


def _nominal(name: str) -> float:
    return float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]


@pytest.mark.parametrize("name", LADDER)
def test_a_rung_of_the_ladder_is_what_its_name_says(name: str) -> None:
    config = preset(f"ours-{name}")
    assert abs(config.parameter_count / _nominal(name) - 1) < 0.12
    assert config.vocab_size == VOCABULARY[name]
    large = _nominal(name) >= 1e9
    assert config.head_dim == (128 if large else 64)
    assert config.num_attention_heads * config.head_dim == config.hidden_size
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.hidden_size % 64 == 0
    assert config.intermediate_size % 64 == 0
    assert 2.4 <= config.intermediate_size / config.hidden_size <= 2.8
    assert config.tie_word_embeddings == (not large)
    assert config.qk_norm
    assert not config.normalized_head


def test_the_ladder_rises_in_everything() -> None:
    rungs = [preset(f"ours-{name}") for name in LADDER]
    assert {f"ours-{name}" for name in LADDER} == {name for name in preset_names() if name.startswith("ours")}
    for lower, upper in itertools.pairwise(rungs):
        assert lower.parameter_count < upper.parameter_count
        assert lower.hidden_size < upper.hidden_size
        assert lower.num_hidden_layers <= upper.num_hidden_layers
        assert lower.intermediate_size < upper.intermediate_size
        assert lower.max_position_embeddings <= upper.max_position_embeddings


def test_the_counts_in_the_comments_of_the_preset_file_are_right() -> None:
    from importlib.resources import files

    text = files("haina.model").joinpath("presets.yaml").read_text("utf-8")
    found = re.findall(r"^([\w-]+): +# ([\d,]+)$", text, re.MULTILINE)
    assert len(found) == len(PUBLISHED) + len(LADDER)
    for name, count in found:
        assert preset(name).parameter_count == int(count.replace(",", ""))


@pytest.mark.parametrize("name", preset_names())
def test_parameter_count_is_that_of_the_transformer(name: str) -> None:
    import torch

    from haina.model import Transformer

    with torch.device("meta"):
        model = Transformer(preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == preset(name).parameter_count
    matrices = sum(
        parameter.numel() for parameter in model.model.layers[0].parameters() if parameter.dim() > 1
    )
    assert matrices == preset(name).block_parameters


def test_flops_per_token_by_hand() -> None:
    config = ModelConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2
    )
    matmul_weights = 3 * (4 * 8 * 8 + 3 * 8 * 16) + 100 * 8
    assert config.flops_per_token(32) == 6 * matmul_weights + 12 * 3 * 8 * 32
    # Norms are no matrix products.
    assert config.model_copy(update={"qk_norm": True}).flops_per_token(32) == config.flops_per_token(32)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(HainaError, match="baichuan-7b"):
        preset("gpt-9")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (
            {"hidden_size": 10, "num_attention_heads": 3},
            "hidden_size 10 is not a multiple of num_attention_heads 3",
        ),
        ({"hidden_size": 10, "num_attention_heads": 4, "head_dim": 4}, "hidden_size 10 is not a multiple"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "is not a multiple of num_key_value_heads 3"),
        ({"num_attention_heads": 4, "num_key_value_heads": 8}, "is not a multiple of num_key_value_heads 8"),
        ({"hidden_size": 12, "num_attention_heads": 4}, "head_dim 3 is odd"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"vocab_size": 100, "eos_token_id": 100}, "eos_token_id 100 is outside the vocabulary of 100"),
        ({"vocab_size": 64000, "bos_token_id": 64000}, "bos_token_id 64000"),
        # Baichuan-7B's first tokenizer had this one.
        ({"vocab_size": 64000, "pad_token_id": 64000}, "pad_token_id 64000"),
        ({"normalized_head": True}, "normalized_head with tie_word_embeddings"),
        ({"hiden_size": 12}, "hiden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_key_value_heads": -1}, "num_key_value_heads"),
        ({"intermediate_size": 0}, "intermediate_size"),
        ({"vocab_size": 7}, "vocab_size"),
        ({"hidden_size": 1}, "hidden_size"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"rope_theta": 0.0}, "rope_theta"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"qk_norm": "sometimes"}, "qk_norm"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": 1 << 62}, "vocab_size"),
        ({"hidden_size": 256.5}, "hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ModelConfig(**values)


_SIZE = st.one_of(
    st.integers(-2, 40), st.none(), st.floats(), st.sampled_from(["4", "x", True, [], 1 << 70, 8.0])
)


@given(st.dictionaries(st.sampled_from(sorted(ModelConfig.model_fields)), _SIZE, max_size=6))
def test_any_values_make_a_consistent_shape_or_a_validation_error(values: dict[str, Any]) -> None:
    try:
        config = ModelConfig(**values)
    except ValidationError:
        return
    assert config.num_attention_heads % config.num_key_value_heads == 0
    assert config.head_dim > 0
    assert config.head_dim % 2 == 0
    assert config.parameter_count > 0
    assert ModelConfig(**config.model_dump()) == config


def test_configuration_imports_no_torch() -> None:
    code = "import sys, haina.model, haina.train; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
