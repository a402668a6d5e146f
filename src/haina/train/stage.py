"""The train stage: token shards and a tokenizer in; `train/` (metrics, checkpoints) and `model/` out."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.model.config import ModelConfig
from haina.model.huggingface import save
from haina.model.transformer import Transformer
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path, write_json
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.loader import Loader, open_loader
from haina.shards.shard_set import ShardSet, read_description
from haina.train.config import TrainConfig
from haina.train.evaluation import validation_windows
from haina.train.hardware import Hardware, choose, in_use
from haina.train.loop import Progress, Trainer
from haina.train.optimizer import build_optimizer

VALIDATION_PREFIX = "validation-"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# What a small base model writes most readably with; any engine lets the user choose otherwise.
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1}


def run(config: TrainConfig, context: StageContext) -> StageResult:
    """Train on `context.input("shards")` with the tokenizer of `context.input("tokenizer")`.

    Raises:
        HainaError: the shards and the tokenizer do not belong together, there is too little text for one
            window, the loss is no longer finite, or a checkpoint cannot be written or read.
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
    """
    tokenizer = TokenizerFile(context.input("tokenizer"))
    shards = context.input("shards")
    checksums = _checked_shards(shards, tokenizer)
    shape = config.model.resolve(
        tokenizer.vocab_size, config.sequence_length, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
    )
    hardware = choose(config)
    with in_use(hardware):
        plans = config.loader.plans or context.scratch / "plans"
        settings = config.loader.with_sizes(config.sequence_length, config.rows_per_step, context.seed)
        loader = open_loader(shards, settings, plans)
        trainer = _trainer(config, shape, hardware, context, checksums, loader)
        progress = trainer.run()
    _write_summary(trainer, progress, context.out("train"), loader)
    _write_model(trainer.model, tokenizer, context.out("model"))
    tokens = config.steps * config.tokens_per_step
    metrics = {
        "parameters": shape.parameter_count,
        "steps": progress.step,
        "loss": progress.final_loss,
        **{f"validation_{lang}": loss for lang, loss in progress.validation.items()},
    }
    return StageResult(tokens, tokens, 0, "tokens", metrics)


def _checked_shards(shards: Path, tokenizer: TokenizerFile) -> dict[str, str]:
    """SHA-256 of each split, once the shards are known to be this tokenizer's."""
    description: dict[str, Any] = read_description(shards)
    if description["tokenizer"]["fingerprint"] != tokenizer.fingerprint:
        raise HainaError(
            f"{shards}: encoded with another tokenizer than {tokenizer.folder}", "run the shards stage again"
        )
    return {name: split["sha256"] for name, split in sorted(description["splits"].items())}


class _Stream:
    """The tokens of a split, read where they are looked at."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return self.shards.total_tokens

    def __getitem__(self, key: slice, /) -> NDArray[np.integer]:
        return self.shards.tokens(key.start, key.stop)


def _trainer(
    config: TrainConfig,
    shape: ModelConfig,
    hardware: Hardware,
    context: StageContext,
    checksums: dict[str, str],
    loader: Loader,
) -> Trainer:
    shards = context.input("shards")
    validation = {}
    for split in sorted(name for name in checksums if name.startswith(VALIDATION_PREFIX)):
        held_out = _Stream(ShardSet.open(shards, split))
        windows = validation_windows(held_out, config.sequence_length, config.validation_tokens)
        if windows:
            validation[split.removeprefix(VALIDATION_PREFIX)] = windows
    model = Transformer(shape)
    model.initialize(context.seed)
    model.to(hardware.device).train()
    if config.compile:
        for block in model.model.layers:
            block.compile()
    identity = {
        "configuration": config.model_dump(mode="json", exclude={"loader": {"plans"}}),
        "model": shape.model_dump(mode="json"),
        "shards": checksums,
        "seed": context.seed,
        "loader": {name: value for name, value in loader.identity().items() if name != "seed"},
    }
    return Trainer(
        model,
        build_optimizer(model, config),
        hardware,
        config,
        loader,
        validation,
        context.out("train"),
        identity,
        context,
    )


def _write_summary(trainer: Trainer, progress: Progress, folder: Path, loader: Loader) -> None:
    config, shape = trainer.config, trainer.model.config
    write_json(
        folder / "summary.json",
        {
            "parameters": shape.parameter_count,
            "tokens": progress.step * config.tokens_per_step,
            "steps": progress.step,
            "epochs": {name or "all": round(read, 4) for name, read in loader.epochs(progress.step).items()},
            "padding": round(loader.plan.padding, 6),
            "final_loss": None if math.isnan(progress.final_loss) else progress.final_loss,
            "validation": {lang: {"loss": loss} for lang, loss in progress.validation.items()},
            "precision": trainer.hardware.precision,
            "device": trainer.hardware.device.type,
            "threads": trainer.hardware.threads,
            "flops_per_token": shape.flops_per_token(config.sequence_length),
            "flops_convention": "model: 6 per matmul weight + 12 * layers * width * sequence, full attention",
        },
    )


def _write_model(model: Transformer, tokenizer: TokenizerFile, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        source = tokenizer.folder / name
        if source.is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source, temporary)
    shape = model.config
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": shape.bos_token_id,
            "eos_token_id": shape.eos_token_id,
            "pad_token_id": shape.pad_token_id,
            "max_length": shape.max_position_embeddings,
            # Pretraining makes a model that continues text; the chat page says so.
            "haina_kind": "base",
            **SAMPLING,
        },
    )
    save(model, folder)
