"""A tiny trained-looking model folder, and its INT4 folder made by the stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import haina.model
from haina.model import ModelConfig, Transformer
from haina.quantize import QuantizeConfig
from haina.quantize.stage import run
from haina.runtime.stage import StageContext

CONFIG = ModelConfig(
    vocab_size=256,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Transformer(CONFIG)
    model.initialize(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4.0)
    folder = tmp_path_factory.mktemp("bf16") / "model"
    haina.model.save(model, folder)
    for name, content in {
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
        "generation_config.json": json.dumps({"eos_token_id": 1}),
        "chat_template.jinja": "{{ '海' }}",
    }.items():
        (folder / name).write_text(content, "utf-8")
    return folder


@pytest.fixture(scope="session")
def quantize_folder(model_folder: Path) -> Callable[..., Path]:
    def quantize(work: Path, **changes: object) -> Path:
        run(QuantizeConfig(**changes), StageContext(work, {"model": model_folder}))
        return work / "out" / "model-int4"

    return quantize


@pytest.fixture(scope="session")
def int4_folder(quantize_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize_folder(tmp_path_factory.mktemp("int4"))
