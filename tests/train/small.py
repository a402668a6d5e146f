"""A model of a few hundred weights, for tests that look at one part of a training step."""

from __future__ import annotations

from typing import Any

import torch

from haina.model import ModelConfig, Transformer
from haina.train.hardware import Hardware

CPU = torch.device("cpu")
# float32 products on one thread.
PLAIN = Hardware(CPU, torch.float32, 1)
SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def small_model(seed: int = 0, **sizes: Any) -> Transformer:
    """A model with the initial weights of `seed`; `sizes` are fields of `ModelConfig` in place of `SIZES`."""
    model = Transformer(ModelConfig(**(SIZES | sizes)))
    model.initialize(seed)
    return model
