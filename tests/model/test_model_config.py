"""Shapes: presets are exact, sizes that do not fit are named, and reading them needs no torch."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from haina.model import ModelConfig, preset, preset_names
from haina.runtime.errors import HainaError


def test_baichuan_preset_has_the_published_parameter_count():
    config = preset("baichuan-7b")
    assert config.parameter_count == 7_000_559_616
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (32, 4096, 11008)
    assert (config.vocab_size, config.max_position_embeddings, config.rms_norm_eps) == (64000, 4096, 1e-6)
    assert not config.tie_word_embeddings


@pytest.mark.parametrize("name", preset_names())
def test_parameter_count_is_that_of_the_transformer(name):
    import torch

    from haina.model import Transformer

    with torch.device("meta"):
        model = Transformer(preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == preset(name).parameter_count


def test_flops_per_token_by_hand():
    config = ModelConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2
    )
    matmul_weights = 3 * (4 * 8 * 8 + 3 * 8 * 16) + 100 * 8
    assert config.flops_per_token(32) == 6 * matmul_weights + 12 * 3 * 8 * 32


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(HainaError, match="baichuan-7b"):
        preset("gpt-9")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, "hidden_size 10"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"hidden_size": 12, "num_attention_heads": 4}, "head_dim 3 is odd"),
        ({"vocab_size": 100, "eos_token_id": 100}, "eos_token_id 100"),
        ({"hiden_size": 12}, "hiden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_sizes_that_do_not_fit_are_named(values, named):
    with pytest.raises(ValidationError, match=named):
        ModelConfig(**values)


def test_configuration_imports_no_torch():
    code = "import sys, haina.model, haina.train; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
