"""Question: what does one GPU give, and does a 7B model train on it, nothing offloaded, at 55 % of the datasheet rate?

One command, all figures, each beside what bounds it:

  ceilings     matrix products in bf16 (random data) and a copy on the device: measured, the bound of all that follows
  attention    forward and backward of every backend PyTorch has here, with and without documents kept apart
  7b           pretraining steps of baichuan-7b, 4,096 tokens a row: float32 master weights (`split_weights`), both
               moments and float32 gradients on the device, nothing offloaded; memory beside `haina.train.memory`
  ladder       a training step of every preset of ours that fits, eager and (larger ones) compiled
  decode       tokens a second of the inference model, as a share of what reading its weights and cache once allows
  loss         the chunked linear cross-entropy against one that holds all logits
  operators    RMSNorm, rotation, SwiGLU, packed products: eager and compiled, as bytes a second
  peers        transformers, same shapes, same optimizer, eager and compiled
  repeatable   7b again with PyTorch's deterministic algorithms, as `haina train` runs on CUDA

A training step is the product's own: `haina.train.step.Stepper` with `training_states`, `linear_cross_entropy`,
clipping, the guard and the optimizer; attention is what PyTorch chooses, unless the line names another. TFLOPS are
model FLOPs: 6 a matmul weight and token, 12 * layers * width * sequence for attention (full attention, although half of
it is masked), nothing recomputed counted twice. Every figure is the median of several timed runs (CUDA events) after
warm-up, with half the range from the fastest to the slowest.

Run: PYTHONPATH=src python benchmarks/gpu.py [--only NAME] [--json FILE] [--seconds 540]
     a plain PyTorch 2.11 image is enough; --device cpu --tiny runs every line in miniature, for its correctness
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

# Read when CUDA starts: without it the last GiB of a full device are in pieces.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from haina.model import ModelConfig, Transformer, preset
from haina.model.norm import RMSNorm
from haina.model.rotary import rotary_angles, rotate
from haina.runtime.c_kernels import SWITCH
from haina.shards.batch import BATCH_PIECE, Batch
from haina.train.config import TrainConfig
from haina.train.guards import Guard
from haina.train.hardware import Hardware, in_use
from haina.train.loss import linear_cross_entropy, plain_loss
from haina.train.memory import GIB, MemoryEstimate, estimate
from haina.train.optimizer import build_optimizer
from haina.train.recompute import recompute_blocks
from haina.train.step import Stepper

DATASHEET_TFLOPS = 989.0  # dense bf16 of an H100 or H200 SXM; shares of it are given for these alone
DATASHEET_NAMES = ("H100 80GB HBM3", "H200")
LADDER = ("1m", "3m", "7m", "15m", "30m", "60m", "100m", "300m", "1b", "3b")
COMPILED = ("30m", "100m", "300m", "1b", "3b")
DOCUMENTS = ("100m", "1b")
PEERS = ("ours-100m", "ours-1b")
BF16 = torch.bfloat16
Call = Callable[[], object]


@dataclass
class Figure:
    """One line of the table. `value` None: it could not be had, `note` says why."""

    part: str
    what: str
    value: float | None
    unit: str = ""
    spread: float = 0.0
    share: float | None = None
    bound: str = ""
    note: str = ""

    def line(self) -> str:
        value = "-" if self.value is None else f"{self.value:,.4g}"
        spread = f"+-{100 * self.spread:.0f}%" if self.spread else ""
        share = "" if self.share is None else f"{100 * self.share:.1f}% of {self.bound}"
        return (
            f"{self.part:<10} {self.what:<46} {value:>9} {self.unit:<10} {spread:<6} {share:<26} {self.note}"
        )


@dataclass
class Bench:
    """What all parts share: the device, the sizes, the clock, and the figures so far."""

    device: torch.device
    tiny: bool
    seconds: float
    started: float = field(default_factory=time.monotonic)
    figures: list[Figure] = field(default_factory=list)
    matmul: float = 0.0  # TFLOPS, the best that was measured
    copy: float = 0.0  # GB a second
    attention: SDPBackend | None = None  # the fastest

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def backend(self) -> str:
        return "inductor" if self.cuda else "aot_eager"

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def add(self, *values: Any, **named: Any) -> None:
        self.figures.append(Figure(*values, **named))
        print(self.figures[-1].line(), flush=True)

    def attempt(
        self, part: str, what: str, function: Callable[[], None], needed: float = 0.0, estimated: str = ""
    ) -> None:
        """Let `function` add figures; its failure is a line, and the rest goes on.

        Args:
            needed: seconds it may take.
            estimated: memory that it may take, in words, for those who have not enough.
        """
        if self.left() < needed:
            self.add(
                part, what, None, note=f"left out: it may take {needed:.0f} s, {self.left():.0f} s are left"
            )
            return
        try:
            function()
        except torch.OutOfMemoryError:
            self.add(part, what, None, note=f"out of memory{estimated and f': {estimated}'}")
        except Exception as error:  # whatever an image lacks
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
            self.add(part, what, None, note=f"not available here: {reason}")
        finally:
            self.release()

    def release(self) -> None:
        """Give the device's memory back to the next figure."""
        gc.collect()
        torch._dynamo.reset()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def time(self, call: Call, repeats: int = 10, warmup: int = 3, inner: int = 1) -> tuple[float, float]:
        """Seconds of one call: median of `repeats` timings of `inner` calls each, and half their range over it."""
        if self.tiny:
            repeats, warmup, inner = 2, 1, 1
        for _ in range(warmup):
            call()
        seconds = [self._once(call, inner) for _ in range(repeats)]
        middle = statistics.median(seconds)
        return middle, (max(seconds) - min(seconds)) / (2 * middle)

    def _once(self, call: Call, inner: int) -> float:
        if not self.cuda:
            started = time.perf_counter()
            for _ in range(inner):
                call()
            return (time.perf_counter() - started) / inner
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(inner):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / inner

    def of_datasheet(self, tflops: float) -> tuple[float | None, str]:
        """Share of the datasheet's rate, where this is a card that it is of."""
        card = torch.cuda.get_device_name() if self.cuda else ""
        # Those of PCIe, also in pairs, have another one.
        known = any(name in card for name in DATASHEET_NAMES) and "NVL" not in card
        return (tflops / DATASHEET_TFLOPS, "datasheet") if known else (None, "")

    def randn(self, *shape: int, dtype: torch.dtype = BF16, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=dtype) * scale

    def allocated(self) -> float:
        """GiB that are allocated now; the peak starts from here."""
        if not self.cuda:
            return float("nan")
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / GIB

    def peak(self) -> float:
        """Most GiB that were allocated at once since `release` or `allocated`."""
        return torch.cuda.max_memory_allocated() / GIB if self.cuda else float("nan")


# ---------------------------------------------------------------------------------------------------- ceilings


def ceilings(bench: Bench) -> None:
    sizes = [
        (8192, 8192, 8192),
        (4096, 4096, 4096),
        (4096, 11008, 4096),
        (8192, 11008, 4096),
        (4096, 64000, 4096),
    ]
    for rows, columns, inner in [(256, 256, 256)] if bench.tiny else sizes:
        bench.attempt(
            "ceilings",
            f"matmul {rows} x {columns} x {inner}",
            lambda r=rows, c=columns, i=inner: product(bench, r, c, i),
        )
    bench.attempt("ceilings", "copy", lambda: copy(bench))


def product(bench: Bench, rows: int, columns: int, inner: int) -> None:
    left, right = bench.randn(rows, inner), bench.randn(columns, inner)
    out = torch.empty(rows, columns, dtype=BF16, device=bench.device)
    seconds, spread = bench.time(lambda: torch.mm(left, right.t(), out=out), inner=10)
    rate = 2 * rows * columns * inner / seconds / 1e12
    bench.matmul = max(bench.matmul, rate)
    name = f"matmul {rows} x {columns} x {inner}, bf16"
    bench.add("ceilings", name, rate, "TFLOPS", spread, *bench.of_datasheet(rate), note="random data")


def copy(bench: Bench) -> None:
    source = torch.empty(1 << (20 if bench.tiny else 32), dtype=torch.uint8, device=bench.device).random_()
    target = torch.empty_like(source)
    seconds, spread = bench.time(lambda: target.copy_(source))
    bench.copy = 2 * source.numel() / seconds / 1e9
    bench.add("ceilings", "copy", bench.copy, "GB/s", spread, note="bytes read and written")


# --------------------------------------------------------------------------------------------------- attention


HEADS = (("32 heads of 128", 1, 32, 32, 4096, 128), ("32 heads of 128, 8 for keys", 1, 32, 8, 4096, 128))
TINY_HEADS = (("4 heads of 64", 1, 4, 4, 128, 64),)
BACKENDS = (
    SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
)  # fmt: skip


def attention(bench: Bench) -> None:
    for name, *sizes in TINY_HEADS if bench.tiny else HEADS:
        backends(bench, name, *sizes)
        documents(bench, name, *sizes)


def backends(bench: Bench, name: str, *sizes: int) -> None:
    """Every backend of SDPA; the fastest of the first call is what one of the 7B steps prefers."""
    best: dict[SDPBackend, float] = {}
    for backend in BACKENDS:
        label = f"{backend.name.lower().removesuffix('_attention')}, {name}"
        bench.attempt("attention", label, lambda b=backend, n=label: sdpa(bench, b, n, *sizes, best))
    if best and bench.attention is None:
        bench.attention = min(best, key=lambda backend: best[backend])


def heads_of(bench: Bench, batch: int, heads: int, kv_heads: int, length: int, width: int) -> list[Tensor]:
    """Queries, keys and values [batch, heads, length, width] in the layout that projections leave, with gradients."""
    made = (bench.randn(batch, length, count, width) for count in (heads, kv_heads, kv_heads))
    return [values.transpose(1, 2).requires_grad_() for values in made]


def forward_and_backward(
    bench: Bench, label: str, call: Callable[[], Tensor], inputs: list[Tensor], note: str = ""
) -> float:
    """Figures of `call`, attention over `inputs`: forward, then both ways; gives the seconds of the latter."""
    batch, heads, length, width = inputs[0].shape
    flops = 4 * batch * heads * length**2 * width
    with torch.no_grad():
        seconds, spread = bench.time(call, inner=5)
    figure = ("attention", f"{label}: forward")
    bench.add(
        *figure, flops / seconds / 1e12, "TFLOPS", spread, *of_matmul(bench, flops / seconds), note=note
    )
    above = torch.randn_like(call())
    both, spread = bench.time(lambda: torch.autograd.grad(call(), inputs, above), inner=5)
    figure = ("attention", f"{label}: both ways")
    rate = 3 * flops / both
    bench.add(*figure, rate / 1e12, "TFLOPS", spread, *of_matmul(bench, rate), note=note)
    return both


def of_matmul(bench: Bench, rate: float) -> tuple[float | None, str]:
    return (rate / 1e12 / bench.matmul, "matmul") if bench.matmul else (None, "")


def sdpa(bench: Bench, backend: SDPBackend, label: str, *sizes: Any) -> None:
    *shape, best = sizes
    inputs = heads_of(bench, *shape)
    grouped = shape[1] != shape[2]

    def call() -> Tensor:
        return F.scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=grouped)

    with sdpa_kernel(backend):
        best[backend] = forward_and_backward(bench, label, call, inputs, "full attention counted")


def documents(bench: Bench, name: str, *sizes: int) -> None:
    """A row of documents of 128 to 1,024 tokens: a mask for SDPA, a block mask for flex_attention, starts for varlen.

    Each is given in the form that its caller has at hand; making it is not timed.
    """
    _, heads, kv_heads, length, _ = sizes
    generator = np.random.default_rng(0)
    low, high = (16, 48) if bench.tiny else (128, 1024)
    ends = np.cumsum(generator.integers(low, high, 4 * length // low))
    bounds = np.concatenate([[0], ends[ends < length], [length]])
    segments = torch.from_numpy(np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))).to(bench.device)
    note = f"{len(bounds) - 1} documents; full attention counted"

    def plain() -> None:
        inputs = heads_of(bench, *sizes)
        mask = (segments[:, None] == segments[None, :]).tril()[None, None]
        forward_and_backward(
            bench, f"SDPA with a mask, {name}",
            lambda: F.scaled_dot_product_attention(*inputs, attn_mask=mask, enable_gqa=heads != kv_heads),
            inputs, note,
        )  # fmt: skip

    def flex() -> None:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        inputs = heads_of(bench, *sizes)

        def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (segments[query] == segments[key])

        blocks = create_block_mask(visible, None, None, length, length, device=str(bench.device))
        compiled = torch.compile(flex_attention, dynamic=False)
        forward_and_backward(
            bench, f"flex_attention, {name}",
            lambda: compiled(*inputs, block_mask=blocks, enable_gqa=heads != kv_heads), inputs, note,
        )  # fmt: skip

    def varlen() -> None:
        from torch.nn.attention.varlen import varlen_attn

        inputs = heads_of(bench, *sizes)
        starts = torch.from_numpy(bounds.astype(np.int32)).to(bench.device)
        longest = int(np.diff(bounds).max())
        repeated = heads // kv_heads

        def call() -> Tensor:
            rows = [part.transpose(1, 2).flatten(0, 1) for part in inputs]
            rows[1:] = [
                part.repeat_interleave(repeated, dim=1) if repeated > 1 else part for part in rows[1:]
            ]
            # 2.11 says is_causal, later versions a window that reaches back without end.
            try:
                return varlen_attn(*rows, starts, starts, longest, longest, is_causal=True)
            except TypeError:
                return varlen_attn(*rows, starts, starts, longest, longest, window_size=(-1, 0))

        forward_and_backward(bench, f"varlen_attn, {name}", call, inputs, note)

    bench.attempt("attention", f"SDPA with a mask, {name}", plain)
    bench.attempt("attention", f"flex_attention, {name}", flex, 40)
    bench.attempt("attention", f"varlen_attn, {name}", varlen)


# ------------------------------------------------------------------------------------------------ training steps


def fresh_model(bench: Bench, shape: ModelConfig) -> Transformer:
    """A model on the device with random weights: N(0, 0.02), gains 1."""
    with torch.device("meta"):
        model = Transformer(shape)
    model.to_empty(device=bench.device)
    model.tie()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.fill_(1.0)
    return model.train()


def random_batch(shape: ModelConfig, rows: int, length: int, documents: bool = False) -> Batch:
    """Random tokens; with `documents` eight of equal length in each row, kept apart."""
    tokens = np.random.default_rng(0).integers(3, shape.vocab_size, (rows, length + 1))
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length)).copy()
    segments = np.zeros_like(places)
    if documents:
        segments, places = np.divmod(places, -(-length // 8))
    inputs, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    pieces = np.zeros(0, BATCH_PIECE)
    return Batch(0, inputs, targets, places, segments, pieces, documents, rows * length)


@dataclass(frozen=True)
class Run:
    """How a training step is run: what `TrainConfig` and the model need to know."""

    rows: int
    length: int
    accumulation: int = 1
    compiled: bool = False
    recompute: Any = "none"
    split_weights: bool = False
    chunk: int = 2048
    optimizer: Any = "adamw"
    documents: bool = False
    prefer: SDPBackend | None = None  # backend of attention; None: PyTorch's choice, as in `haina train`

    def words(self) -> str:
        kind = f"{'compiled' if self.compiled else 'eager'}, {self.optimizer}"
        again = "" if self.recompute == "none" else f", recompute {self.recompute}"
        again += ", documents apart" if self.documents else ""
        again += f", {self.prefer.name.lower()} first" if self.prefer is not None else ""
        return f"{self.accumulation} x {self.rows} x {self.length} tokens, {kind}{again}"


def training_step(bench: Bench, part: str, name: str, shape: ModelConfig, run: Run, repeats: int = 5) -> None:
    """Speed and memory of the product's step with these settings."""
    model = fresh_model(bench, shape)
    recompute_blocks(model, run.recompute)
    if run.compiled:
        for block in model.model.layers:
            block.compile(backend=bench.backend)
    rate = 0.08 / shape.hidden_size  # falls on a repeated batch at any width
    config = TrainConfig(
        sequence_length=run.length,
        micro_batch_size=run.rows,
        gradient_accumulation=run.accumulation,
        loss_chunk_tokens=run.chunk,
        precision="bf16",
        optimizer=run.optimizer,
        split_weights=run.split_weights,
        learning_rate=rate,
        matrix_learning_rate=rate,
        steps=1000,
    )
    optimizer = build_optimizer(model, config)
    guard = Guard(config.guards, bench.device)
    stepper = Stepper(model, optimizer, guard, Hardware(bench.device, BF16, 1), config)
    batch = random_batch(shape, run.rows * run.accumulation, run.length, run.documents)
    rows: list[Tensor] = []
    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    order = [run.prefer, *(backend for backend in others if backend != run.prefer)]
    with nullcontext() if run.prefer is None else sdpa_kernel(order, set_priority=True):
        seconds, spread = bench.time(lambda: rows.append(stepper(batch, rate, False, False)), repeats, 2)
    losses = [float(row[0]) for row in rows]
    if not all(np.isfinite(losses)):
        raise ValueError(f"losses {losses} are not finite")
    tokens = run.rows * run.length * run.accumulation / seconds
    tflops = shape.flops_per_token(run.length) * tokens / 1e12
    note = f"{run.words()}, {tokens:,.0f} tokens/s, loss {losses[0]:.2f} -> {losses[-1]:.2f}"
    bench.add(part, name, tflops, "TFLOPS", spread, *bench.of_datasheet(tflops), note=note)
    if bench.matmul:
        bench.add(part, f"{name}: of the matmul ceiling", 100 * tflops / bench.matmul, "%", note="same step")
    memory(bench, part, name, shape, run)


def expected_memory(bench: Bench, shape: ModelConfig, run: Run) -> MemoryEstimate:
    return estimate(
        shape,
        micro_batch_size=run.rows,
        sequence_length=run.length,
        optimizer=run.optimizer,
        dtype=BF16,
        device=bench.device,
        loss_chunk=run.chunk,
        recompute=run.recompute,
        compiled=run.compiled,
        accumulation=run.accumulation,
        document_mask=run.documents,
        split_weights=run.split_weights,
        path="compiled" if run.compiled else "plain",
    )


def told(expected: MemoryEstimate) -> str:
    return f"estimate {expected.total / GIB:.2f} GiB, at the {expected.moment}"


def memory(bench: Bench, part: str, name: str, shape: ModelConfig, run: Run) -> None:
    """Most memory of the step beside its estimate."""
    expected = expected_memory(bench, shape, run)
    guess = told(expected)
    if not bench.cuda:
        bench.add(part, f"{name}: memory", expected.total / GIB, "GiB", note=guess)
        return
    measured, reserved = bench.peak(), torch.cuda.max_memory_reserved() / GIB
    share = expected.total / GIB / measured
    bench.add(
        part,
        f"{name}: memory",
        measured,
        "GiB",
        0.0,
        share,
        "measured",
        f"{guess}; {reserved:.2f} GiB reserved",
    )


def tiny_shape(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "qk_norm": True,
    }  # fmt: skip
    return ModelConfig(**(sizes | changes))


def seven(bench: Bench, part: str = "7b") -> None:
    length = 64 if bench.tiny else 4096
    usual = Run(1, length, 8, compiled=True, split_weights=True)
    runs = [
        ("baichuan-7b", usual),
        ("baichuan-7b", replace(usual, prefer=bench.attention or SDPBackend.MATH)),
        ("baichuan-7b", replace(usual, rows=2, accumulation=4, recompute="selective")),
        ("ours-7b", usual),
    ]
    for preset_name, run in runs[:1] if part == "repeatable" else runs:
        shape = tiny_shape(tie_word_embeddings=False) if bench.tiny else preset(preset_name)
        name = f"{'tiny' if bench.tiny else preset_name}, {run.accumulation} x {run.rows} rows"
        if part == "repeatable":
            name += ", deterministic"
        elif run.prefer is not None:
            name += ", fastest attention"

        def step(name: str = name, shape: ModelConfig = shape, run: Run = run) -> None:
            training_step(bench, part, name, shape, run, 3)

        bench.attempt(part, name, step, 0 if bench.tiny else 90, told(expected_memory(bench, shape, run)))


def repeatable(bench: Bench) -> None:
    with in_use(Hardware(bench.device, BF16, torch.get_num_threads())):
        seven(bench, "repeatable")


def ladder(bench: Bench) -> None:
    for size in LADDER[:1] if bench.tiny else LADDER:
        shape = tiny_shape() if bench.tiny else preset(f"ours-{size}")
        length = shape.max_position_embeddings
        rows = 2 if bench.tiny else max(1, 32768 // length)
        kinds = [(False, "adamw", False)]
        if size in COMPILED or bench.tiny:
            kinds += [(True, "adamw", False), (True, "muon", False)]
        if size in DOCUMENTS or bench.tiny:
            kinds += [(True, "adamw", True)]
        for compiled, optimizer, apart in kinds:
            run = Run(rows, length, compiled=compiled, chunk=4096, optimizer=optimizer, documents=apart)
            run = fitting_run(bench, shape, run)
            kind = f"{'compiled' if compiled else 'eager'}, {optimizer}" + (
                ", documents apart" if apart else ""
            )
            name = f"{'tiny' if bench.tiny else f'ours-{size}'}, {kind}"

            def step(name: str = name, shape: ModelConfig = shape, run: Run = run) -> None:
                training_step(bench, "ladder", name, shape, run)

            bench.attempt(
                "ladder", name, step, 45 * (compiled and not bench.tiny),
                told(expected_memory(bench, shape, run)),
            )  # fmt: skip


def fitting_run(bench: Bench, shape: ModelConfig, run: Run) -> Run:
    """The same with as many rows as the estimate says fit."""
    free = 0.92 * torch.cuda.mem_get_info()[0] if bench.cuda else float("inf")
    while run.rows > 1:
        if expected_memory(bench, shape, run).total <= free:
            break
        run = replace(run, rows=run.rows // 2)
    return run


# ------------------------------------------------------------------------------------------------------ decode


def decode(bench: Bench) -> None:
    for name in ("tiny",) if bench.tiny else ("ours-1b", "baichuan-7b"):
        for batch in (1, 32):
            label = f"{name}, batch {batch}"
            bench.attempt("decode", label, lambda n=name, b=batch, w=label: decode_steps(bench, w, n, b), 20)


@torch.inference_mode()
def decode_steps(bench: Bench, label: str, name: str, batch: int) -> None:
    from haina.inference.cache import ContiguousCache

    shape = tiny_shape() if bench.tiny else preset(name)
    past = 16 if bench.tiny else 512
    model = fresh_model(bench, shape).to(BF16).eval()
    cache = ContiguousCache(shape, batch, past + 256, BF16, bench.device)
    model.hidden_states(torch.randint(3, shape.vocab_size, (batch, past), device=bench.device), cache)
    token = torch.randint(3, shape.vocab_size, (batch, 1), device=bench.device)

    def step() -> None:
        cache.length = past
        model.lm_head(model.hidden_states(token, cache)[:, -1]).argmax(-1)

    read = 2 * (
        shape.parameter_count - shape.vocab_size * shape.hidden_size * (not shape.tie_word_embeddings)
    )
    read += 4 * batch * past * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    note = f"bf16, {past} tokens before; {read / 1e9:.2f} GB a step to read"

    def measure(label: str, call: Call) -> None:
        seconds, spread = bench.time(call, 10, 3, 10)
        share = read / 1e9 / seconds / bench.copy if bench.copy else None
        bench.add("decode", label, batch / seconds, "tokens/s", spread, share, "copy rate", note)

    measure(label, step)
    bench.attempt(
        "decode", f"{label}, as a CUDA graph", lambda: measure(f"{label}, as a CUDA graph", captured(step))
    )


def captured(call: Call) -> Call:
    """The launches of `call` as one: what it takes when the host is no bound."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


# -------------------------------------------------------------------------------------------- loss and operators


def losses(bench: Bench) -> None:
    tokens, width, vocabulary = (256, 64, 512) if bench.tiny else (8192, 4096, 64000)
    flops = 6 * tokens * width * vocabulary

    def measure(label: str, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        hidden = bench.randn(tokens, width).requires_grad_()
        weight = bench.randn(vocabulary, width, dtype=torch.float32, scale=0.02).requires_grad_()
        targets = torch.randint(0, vocabulary, (tokens,), device=bench.device)
        before = bench.allocated()
        seconds, spread = bench.time(
            lambda: torch.autograd.grad(call(hidden, weight, targets), (hidden, weight)), inner=2
        )
        rate = flops / seconds
        note = f"{tokens} tokens, {vocabulary} ids; {bench.peak() - before:.2f} GiB beside its inputs"
        bench.add("loss", label, rate / 1e12, "TFLOPS", spread, *of_matmul(bench, rate), note=note)

    def chunked(chunk: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda h, w, t: linear_cross_entropy(
            h, w, t, chunk=chunk, dtype=BF16, total=len(t), z_loss=1e-5
        )[0]

    def whole(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy((hidden @ weight.to(BF16).t()).float(), targets)

    for chunk in (64,) if bench.tiny else (512, 1024, 2048, 4096):
        label = f"linear_cross_entropy, {chunk} tokens at once"
        bench.attempt("loss", label, lambda n=label, c=chunk: measure(n, chunked(c)))
    bench.attempt("loss", "all logits, eager", lambda: measure("all logits, eager", whole))
    compiled = torch.compile(whole, backend=bench.backend, dynamic=False)
    bench.attempt("loss", "all logits, compiled", lambda: measure("all logits, compiled", compiled), 30)
    bench.attempt("loss", "against its definition in float64", lambda: loss_error(bench, chunked(32)))


def loss_error(bench: Bench, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Relative error of the gradients in bf16 against the definition in float64, on fresh random input."""
    hidden = bench.randn(256, 64).requires_grad_()
    weight = bench.randn(1000, 64, dtype=torch.float32).requires_grad_()
    targets = torch.randint(0, 1000, (256,), device=bench.device)
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight)]
    wanted = torch.autograd.grad(plain_loss(*exact, targets, 256, 1e-5)[0], exact)
    found = torch.autograd.grad(call(hidden, weight, targets), (hidden, weight))
    errors = [
        float((part.double() - right).norm() / right.norm())
        for part, right in zip(found, wanted, strict=True)
    ]
    if max(errors) > 0.02:
        raise ValueError(f"gradients are off by {max(errors):.3g}")
    bench.add(
        "loss",
        "error of gradients against float64",
        max(errors),
        "relative",
        note="bf16 operands: below 2e-2",
    )


def operators(bench: Bench) -> None:
    tokens, width, inner, heads = (64, 64, 128, 2) if bench.tiny else (8192, 4096, 11008, 32)
    head = width // heads
    norm = RMSNorm(width, 1e-6).to(bench.device)
    angles = rotary_angles(torch.arange(tokens, device=bench.device), head, 10000.0)
    cases: dict[str, tuple[Callable[..., Tensor], list[tuple[tuple[int, ...], torch.dtype]], float]] = {
        # the operator, its inputs, and the bytes it must move forward and backward
        "RMSNorm to bf16": (
            lambda x: norm(x).to(BF16),
            [((tokens, width), torch.float32)],
            (4 + 2 + 4 + 2 + 4) * tokens * width,
        ),
        "rotation": (
            lambda x: rotate(x, *angles).to(BF16),
            [((1, heads, tokens, head), BF16)],
            8 * tokens * width,
        ),
        "SwiGLU": (lambda a, b: F.silu(a) * b, [((tokens, inner), BF16)] * 2, (6 + 10) * tokens * inner),
    }
    for name, (operator, inputs, moved) in cases.items():
        for kind in ("eager", "compiled"):
            call = (
                operator if kind == "eager" else torch.compile(operator, backend=bench.backend, dynamic=False)
            )
            bench.attempt(
                "operators", f"{name}, {kind}",
                lambda c=call, i=inputs, m=moved, n=f"{name}, {kind}": elementwise(bench, n, c, i, m),
            )  # fmt: skip
    bench.attempt("operators", "products of QKV", lambda: packed_products(bench, tokens, width))


def elementwise(bench: Bench, label: str, call: Callable[..., Tensor], shapes: Any, moved: float) -> None:
    inputs = [bench.randn(*shape, dtype=dtype).requires_grad_() for shape, dtype in shapes]
    above = torch.randn_like(call(*inputs))
    seconds, spread = bench.time(lambda: torch.autograd.grad(call(*inputs), inputs, above), inner=10)
    rate = moved / seconds / 1e9
    share = rate / bench.copy if bench.copy else None
    bench.add("operators", label, rate, "GB/s", spread, share, "copy rate", "both ways, bytes that must move")


def packed_products(bench: Bench, tokens: int, width: int) -> None:
    states = bench.randn(tokens, width)
    parts = [bench.randn(width, width) for _ in range(3)]
    whole = torch.cat(parts)
    flops = 6 * tokens * width * width
    for label, call in (
        ("QKV, three products", lambda: [states @ part.t() for part in parts]),
        ("QKV, one product", lambda: states @ whole.t()),
    ):
        seconds, spread = bench.time(call, inner=10)
        bench.add(
            "operators", label, flops / seconds / 1e12, "TFLOPS", spread, *of_matmul(bench, flops / seconds)
        )


# ------------------------------------------------------------------------------------------------------- peers


def peers(bench: Bench) -> None:
    for name in ("tiny",) if bench.tiny else PEERS:
        shape = tiny_shape() if bench.tiny else preset(name)
        length = shape.max_position_embeddings
        rows = 2 if bench.tiny else 16384 // length
        for compiled in (False, True):
            kind = "compiled" if compiled else "eager"
            bench.attempt(
                "peers", f"transformers {name}, {kind}",
                lambda n=name, s=shape, r=rows, k=compiled: transformers_step(bench, n, s, r, k), 60 * compiled,
            )  # fmt: skip
            run = Run(rows, length, compiled=compiled)
            bench.attempt(
                "peers", f"haina {name}, {kind}",
                lambda n=f"haina {name}, {kind}", s=shape, r=run: training_step(bench, "peers", n, s, r), 45 * compiled,
            )  # fmt: skip


def transformers_step(bench: Bench, name: str, shape: ModelConfig, rows: int, compiled: bool) -> None:
    """The same shape and batch in transformers: autocast, SDPA, its own loss, PyTorch's fused AdamW."""
    import transformers

    from haina.model.huggingface import config_json

    values = config_json(shape, BF16)
    kind = values.pop("architectures")[0].removesuffix("ForCausalLM")
    values.pop("torch_dtype", None)
    settings = getattr(transformers, f"{kind}Config")(**values, attn_implementation="sdpa")
    with bench.device:
        model: Any = getattr(transformers, f"{kind}ForCausalLM")(settings).float().train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    call = torch.compile(model, backend=bench.backend) if compiled else model
    length = shape.max_position_embeddings
    tokens = torch.randint(3, shape.vocab_size, (rows, length), device=bench.device)

    def step() -> None:
        with torch.autocast(bench.device.type, dtype=BF16):
            loss = call(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds, spread = bench.time(step, 5, 2)
    rate = rows * length / seconds
    tflops = shape.flops_per_token(length) * rate / 1e12
    note = f"{rows} x {length} tokens, {rate:,.0f} tokens/s, {bench.peak():.2f} GiB"
    label = f"transformers {name}, {'compiled' if compiled else 'eager'}"
    bench.add("peers", label, tflops, "TFLOPS", spread, *bench.of_datasheet(tflops), note=note)


# -------------------------------------------------------------------------------------------------------- all

PARTS: dict[str, Callable[[Bench], None]] = {
    "ceilings": ceilings,
    "attention": attention,
    "7b": seven,
    "ladder": ladder,
    "decode": decode,
    "loss": losses,
    "operators": operators,
    "peers": peers,
    "repeatable": repeatable,
}


def clocks() -> str:
    """What nvidia-smi says of the card just now."""
    query = "driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not known"


def conditions(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if bench.cuda else platform.processor() or "CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "driver, clocks, power, temperature": clocks() if bench.cuda else "no GPU",
        "flops": "model FLOPs, full attention, no recomputation",
        "datasheet_tflops": DATASHEET_TFLOPS,
        "tiny": bench.tiny,
    }
    if bench.cuda:
        found["memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / GIB, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--seconds", type=float, default=540.0, help="start nothing that may end later")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU computes in seconds")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: PyTorch sees no CUDA device; --device cpu --tiny runs every line in miniature")
    if options.device == "cpu":
        os.environ[SWITCH] = "0"  # no kernels for CPUs: the path that a GPU takes
    torch.manual_seed(0)
    bench = Bench(torch.device(options.device), options.tiny, options.seconds)
    known = conditions(bench)
    print("\n".join(f"{key}: {value}" for key, value in known.items()), flush=True)
    chosen = options.only or list(PARTS)
    if "ceilings" not in chosen:
        ceilings(bench)
    if "attention" not in chosen:
        backends(bench, *(TINY_HEADS if bench.tiny else HEADS)[0])
    for name, part in PARTS.items():
        if name in chosen:
            part(bench)
            # After every part: whoever ends the command early keeps what there is.
            known["after"] = clocks() if bench.cuda else ""
            known["seconds"] = round(time.monotonic() - bench.started, 1)
            if options.json:
                document = {"conditions": known, "figures": [asdict(figure) for figure in bench.figures]}
                options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n" + "\n".join(figure.line() for figure in bench.figures))
    print(f"{known['seconds']} s; {known['after']}")


if __name__ == "__main__":
    main()
