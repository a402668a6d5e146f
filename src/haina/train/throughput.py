"""A shape in, how fast it trains here out: whole optimizer steps, timed.

A step is the training loop's own: forward, loss, backward, norm and clipping, guard, optimizer. Tokens are random ids,
all counted. The machine's rate of square matrix products is measured before and after in the same process: what else
runs on the machine slows both down.
"""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from haina.model.config import ModelConfig
from haina.model.fused import fused_obstacle
from haina.model.huggingface import config_json
from haina.model.transformer import Transformer
from haina.runtime.devices import describe_machine
from haina.runtime.errors import HainaError
from haina.runtime.rates import measure_matmul
from haina.shards.batch import BATCH_PIECE, Batch
from haina.train.checkpoint_writer import human
from haina.train.config import TrainConfig
from haina.train.guards import Guard
from haina.train.hardware import Hardware, choose, in_use
from haina.train.memory import estimate_for
from haina.train.monitor import CONVENTION
from haina.train.optimizer import build_optimizer
from haina.train.out_of_memory import out_of_memory_explained, usable_bytes
from haina.train.step import Stepper

WARM_UP = 2
LEAST_STEPS, MOST_STEPS, SECONDS = 5, 50, 5.0
MATMUL_SECONDS = 0.5


def peak_memory_bytes(device: torch.device) -> int:
    """Most that this process has held: tensors on a CUDA device, else everything resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    # getrusage also counts what the process that started this one held; some sandboxes have nothing else.
    lines = status.read_text("ascii", "replace").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def random_batch(rows: int, length: int, vocab: int, seed: int) -> Batch:
    """A batch of whole rows of random ids."""
    ids = np.random.default_rng(seed).integers(0, vocab, (rows, length + 1), dtype=np.int64)
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length)).copy()
    pieces = np.zeros(rows, BATCH_PIECE)
    pieces["row"], pieces["document"], pieces["length"] = np.arange(rows), np.arange(rows), length
    inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
    return Batch(0, inputs, targets, places, np.zeros_like(places), pieces, False, rows * length)


def _fewer(rows: int) -> list[int]:
    """`rows` halved again and again, down to 1."""
    return [rows >> bits for bits in range(1, rows.bit_length())]


def _check(config: TrainConfig, shape: ModelConfig, hardware: Hardware) -> None:
    if config.sequence_length > shape.max_position_embeddings:
        raise HainaError(
            f"--seq {config.sequence_length}: the window of {config.model.preset} is "
            f"{shape.max_position_embeddings} tokens",
            f"use at most {shape.max_position_embeddings}",
        )
    usable = usable_bytes(hardware.device)

    def needed(rows: int) -> int:
        changed = config.model_copy(update={"micro_batch_size": rows})
        return estimate_for(changed, shape, hardware.device, hardware.dtype).total

    if needed(config.micro_batch_size) > usable:
        fitting = next((rows for rows in _fewer(config.micro_batch_size) if needed(rows) <= usable), 0)
        raise HainaError(
            f"a step of {config.model.preset} with {config.micro_batch_size} x {config.sequence_length} tokens takes "
            f"about {human(needed(config.micro_batch_size))}, {human(usable)} can be had",
            f"what would fit: --batch {fitting}" if fitting else "take a smaller preset or a shorter --seq",
        )


def _path(model: Transformer, hardware: Hardware, compiled: bool) -> tuple[str, str | None]:
    """Which forward pass a step takes, and why not the fused one."""
    tokens = torch.zeros(1, 1, dtype=torch.int64, device=hardware.device)
    obstacle = fused_obstacle(model, tokens, hardware.dtype)
    if obstacle is None:
        return "fused", None
    return "compiled" if compiled else "plain", obstacle


def measure_training(config: TrainConfig, shape: ModelConfig) -> dict[str, Any]:
    """Train `shape` for some steps as `config` says and time them.

    Args:
        config: its window, rows, optimizer, precision, device, threads and compile are used.
        shape: the model.

    Returns:
        JSON values: tokens_per_s and seconds_per_step (median, low, high), peak_memory_bytes, model_tflops with
        flops_convention, matmul_share, config (Hugging Face's, of the shape), and the conditions.

    Raises:
        HainaError: the window is too long for the shape, or the memory too small for the step.
    """
    hardware = choose(config)
    with in_use(hardware), out_of_memory_explained(config, shape, hardware):
        _check(config, shape, hardware)
        dtype = str(hardware.dtype).removeprefix("torch.")
        model = Transformer(shape)
        model.initialize(0)
        model.to(hardware.device).train()
        path, obstacle = _path(model, hardware, config.compile)
        if config.compile and path == "compiled":
            for block in model.model.layers:
                block.compile()
        stepper = Stepper(
            model, build_optimizer(model, config), Guard(config.guards, hardware.device), hardware, config
        )
        before = measure_matmul(dtype, MATMUL_SECONDS, hardware.device.type)
        times = _times(stepper, config, shape, hardware)
        after = measure_matmul(dtype, MATMUL_SECONDS, hardware.device.type)
    seconds = statistics.median(times)
    flops = shape.flops_per_token(config.sequence_length) * config.tokens_per_step / seconds
    # A neighbour that slows one of the two makes no ceiling lower.
    ceiling = max(before.median, after.median)
    machine = describe_machine()
    return {
        "preset": config.model.preset,
        "parameters": shape.parameter_count,
        "sequence_length": config.sequence_length,
        "batch": config.micro_batch_size,
        "tokens_per_s": config.tokens_per_step / seconds,
        "seconds_per_step": {"median": seconds, "low": min(times), "high": max(times), "steps": len(times)},
        "peak_memory_bytes": peak_memory_bytes(hardware.device),
        "model_tflops": flops / 1e12,
        "flops_convention": CONVENTION,
        "matmul_share": flops / ceiling,
        "matmul_tflops": {"before": before.median / 1e12, "after": after.median / 1e12, "dtype": dtype},
        "path": path,
        "not_fused_because": obstacle,
        "optimizer": config.optimizer,
        "precision": hardware.precision,
        "threads": hardware.threads,
        "device": machine.gpus[0].name if hardware.device.type == "cuda" and machine.gpus else "cpu",
        "machine": {"cpu": machine.cpu, "cores": machine.physical_cores, "os": machine.os},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "config": config_json(shape, torch.float32),
    }


def _times(stepper: Stepper, config: TrainConfig, shape: ModelConfig, hardware: Hardware) -> list[float]:
    """Seconds of each step, after some that are not counted."""
    if hardware.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(hardware.device)
    times: list[float] = []
    number = 0
    while len(times) < LEAST_STEPS or (len(times) < MOST_STEPS and sum(times) < SECONDS):
        batch = random_batch(config.micro_batch_size, config.sequence_length, shape.vocab_size, number)
        start = time.perf_counter()
        stepper(batch, config.learning_rate, False, False)
        if hardware.device.type == "cuda":
            torch.cuda.synchronize()
        number += 1
        if number > WARM_UP:
            times.append(time.perf_counter() - start)
    return times
