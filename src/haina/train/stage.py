"""The train stage: token shards and a tokenizer in; `train/` (metrics, checkpoints) and `model/` out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haina.model.config import ModelConfig
from haina.model.fused_kernels import fused_kernels_obstacle
from haina.model.huggingface import save
from haina.model.initial import initial_weights
from haina.model.transformer import Transformer
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path, fingerprint_bytes, write_json
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.loader import Loader, open_loader
from haina.shards.shard_set import read_description
from haina.train.config import TrainConfig
from haina.train.hardware import Hardware, choose, in_use
from haina.train.held_out import HeldOut, read_held_out
from haina.train.interrupts import ending_on_sigterm
from haina.train.loop import Trainer
from haina.train.monitor import CONVENTION, Monitor
from haina.train.optimizer import build_optimizer
from haina.train.order import batch_number
from haina.train.out_of_memory import out_of_memory_explained
from haina.train.progress import Progress, number
from haina.train.quarantine import FOLDER, Quarantine
from haina.train.recompute import recompute_blocks

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# What a small base model writes most readably with; any engine lets the user choose otherwise.
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1}


@dataclass(frozen=True)
class _Data:
    """What is read: the tokenizer, the shards and what tells them from others, the loader, the held-out documents."""

    tokenizer: TokenizerFile
    shards: Path
    checksums: dict[str, str]
    loader: Loader
    held_out: list[HeldOut]


@ending_on_sigterm()
def run(config: TrainConfig, context: StageContext) -> StageResult:
    """Train on `context.input("shards")` with the tokenizer of `context.input("tokenizer")`.

    Raises:
        HainaError: the shards and the tokenizer do not belong together, there is too little text for one window, the
            memory does not suffice, training goes wrong again and again, or a checkpoint cannot be written or read.
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
        SystemExit: SIGTERM, after a checkpoint where steps are taken; its code is 0.
    """
    tokenizer = TokenizerFile(context.input("tokenizer"))
    shards = context.input("shards")
    checksums = _checked_shards(shards, tokenizer)
    shape = config.model.resolve(
        tokenizer.vocab_size, config.sequence_length, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
    )
    hardware = choose(config)
    with in_use(hardware), out_of_memory_explained(config, shape, hardware):
        plans = config.loader.plans or context.scratch / "plans"
        settings = config.loader.with_sizes(config.sequence_length, config.rows_per_step, context.seed)
        loader = open_loader(shards, settings, plans)
        held_out = read_held_out(shards, config.sequence_length, config.validation_tokens)
        trainer = _trainer(
            config, shape, hardware, context, _Data(tokenizer, shards, checksums, loader, held_out)
        )
        progress = trainer.run()
    _write_summary(trainer, progress, context.out("train"), loader)
    _write_model(trainer.model, tokenizer, context.out("model"))
    tokens = config.steps * config.tokens_per_step
    metrics = {
        "parameters": shape.parameter_count,
        "steps": progress.step,
        "loss": number(progress.final_loss),
        **{f"validation_{name}": found["loss"] for name, found in progress.validation.items()},
    }
    return StageResult(tokens, tokens, 0, "tokens", metrics)


def _checked_shards(shards: Path, tokenizer: TokenizerFile) -> dict[str, str]:
    """SHA-256 of each split, once the shards are known to be this tokenizer's."""
    description: dict[str, Any] = read_description(shards)
    made_with = description["tokenizer"]
    if made_with["fingerprint"] != tokenizer.fingerprint:
        raise HainaError(
            f"{shards}: encoded with another tokenizer than {tokenizer.folder} "
            f"({made_with['vocab_size']:,} ids there, {tokenizer.vocab_size:,} here)",
            "name the tokenizer that the shards were made with, or run the shards stage again",
        )
    if made_with["vocab_size"] > tokenizer.vocab_size:
        raise HainaError(
            f"{shards}: holds ids up to {made_with['vocab_size'] - 1:,}, {tokenizer.folder} has "
            f"{tokenizer.vocab_size:,} of them",
            "name the tokenizer that the shards were made with, or run the shards stage again",
        )
    return {name: split["sha256"] for name, split in sorted(description["splits"].items())}


def _trainer(
    config: TrainConfig, shape: ModelConfig, hardware: Hardware, context: StageContext, data: _Data
) -> Trainer:
    model = Transformer(shape)
    model.initialize(context.seed, config.initialisation)
    model.to(hardware.device).train()
    if hardware.device.type == "cpu" and (why := fused_kernels_obstacle()):
        context.reporter.say(f"no fused kernels here ({why}): training takes the plain path, which is slower")
    if config.recompute != "none":
        recompute_blocks(model, config.recompute)
    if config.compile:
        for block in model.model.layers:
            block.compile()
    identity = {
        "configuration": config.model_dump(
            mode="json", exclude={"loader": {"plans"}, "monitor": True, "model": True}
        ),
        "model": shape.model_dump(mode="json"),
        "shards": data.checksums,
        "seed": context.seed,
        "loader": {name: value for name, value in data.loader.identity().items() if name != "seed"},
    }
    folder = context.out("train")
    name = fingerprint_bytes(json.dumps(identity, sort_keys=True).encode())[:16]
    flops = shape.flops_per_token(config.sequence_length)
    return Trainer(
        model,
        build_optimizer(model, config),
        hardware,
        config,
        data.loader,
        data.held_out,
        folder,
        identity,
        context,
        Monitor(context, config, hardware, flops, name),
        Quarantine(folder / FOLDER, data.shards, data.tokenizer, shape.vocab_size),
        lambda: initial_weights(model, context.seed, config.initialisation),
    )


def _write_summary(trainer: Trainer, progress: Progress, folder: Path, loader: Loader) -> None:
    config, shape = trainer.config, trainer.model.config
    tokens = progress.step * config.tokens_per_step
    per_token = shape.flops_per_token(config.sequence_length)
    read = loader.epochs(batch_number(progress.step, progress.record.left_out))
    write_json(
        folder / "summary.json",
        {
            "parameters": shape.parameter_count,
            "tokens": tokens,
            "steps": progress.step,
            "epochs": {name or "all": round(times, 4) for name, times in read.items()},
            "padding": round(loader.plan.padding, 6),
            "final_loss": number(progress.final_loss),
            "validation": progress.validation,
            "guards": progress.record.summary(),
            "precision": trainer.hardware.precision,
            "device": trainer.hardware.device.type,
            "threads": trainer.hardware.threads,
            "flops_per_token": per_token,
            "model_flops": per_token * tokens,
            "flops_convention": CONVENTION,
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
