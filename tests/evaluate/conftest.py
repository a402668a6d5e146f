"""A tiny random model over bytes, and shards of made-up documents, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

import haina.model
from haina.inference import Engine
from haina.runtime.files import write_json, write_text

# More threads than work: a model of 30 kB is slower on two.
torch.set_num_threads(1)
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]


def write_tokenizer(folder: Path) -> None:
    """One token a byte, behind the five special tokens; `<s>` before a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens(SPECIAL)
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})


def write_model(folder: Path, seed: int, window: int = 512) -> Path:
    """A random model of 2 blocks."""
    config = haina.model.ModelConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=window,
    )
    model = haina.model.Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    haina.model.save(model, folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bf16") / "model", seed=1)


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the INT4 form: other weights, the same tokenizer."""
    return write_model(tmp_path_factory.mktemp("int4") / "model-int4", seed=2)


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine.load(model_folder, device="cpu")
