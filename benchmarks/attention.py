"""Claim: causal attention in bf16, forward and backward on a CPU, runs 3 times as fast as PyTorch's at 512 tokens.

At least twice as fast at 4,096, where PyTorch's blocks are large enough to be fast; with packed documents far more.

Ours (`haina.model.attention_kernel`, from packed queries, keys and values to mixed values, and back to the gradient of
the packed tensor) beside `scaled_dot_product_attention` on the same packed tensor: views of it in, `is_causal`, the
heads put side by side again; its gradient through autograd back to the packed tensor. For packed documents beside SDPA
with an explicit boolean mask, which is its way to keep documents apart; the mask is made beforehand and not counted.

Each line: medians of interleaved runs (wall time), seconds of CPU over all threads beside them; GFLOPS of causal work,
which counts for a query only the keys it may look at: 2 products of 2 * head_dim FLOP forward, 5 backward (scores are
computed again there); as a share of the rate of a bf16 (or fp32) matrix product measured in the same run.
Errors: ||found - true|| / ||true|| against float64, on one row of at most 1,024 tokens.

Run: python benchmarks/attention.py [--runs 15] [--threads N] [--shapes 0,1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from haina.model.attention_kernel import (
    attention_backward,
    attention_forward,
    attention_kernel_available,
    plain_attention_backward,
    plain_attention_forward,
)
from haina.runtime.devices import describe_machine
from haina.runtime.rates import measure_matmul

LONGEST_CHECKED = 1024


@dataclass(frozen=True)
class Shape:
    """`documents`: mean length of the documents in a row, 0 for one document a row."""

    batch: int
    seq: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str = "bfloat16"
    documents: int = 0


SHAPES = (
    Shape(8, 512, 4, 4, 64),
    Shape(8, 512, 8, 2, 64),
    Shape(4, 1024, 8, 8, 64),
    Shape(1, 4096, 8, 2, 64),
    Shape(8, 512, 4, 4, 128),
    Shape(2, 1024, 8, 2, 128),
    Shape(1, 4096, 4, 4, 128),
    Shape(8, 512, 4, 4, 64, documents=150),
    Shape(1, 4096, 8, 2, 64, documents=400),
    Shape(1, 4096, 4, 4, 128, documents=400),
    Shape(8, 512, 4, 4, 64, dtype="float32"),
    Shape(2, 1024, 8, 2, 128, dtype="float32"),
)


def starts_of(shape: Shape) -> Tensor | None:
    """int32 [batch, seq], documents of exponentially distributed lengths."""
    if not shape.documents:
        return None
    generator = torch.Generator().manual_seed(1)
    begins = torch.rand(shape.batch, shape.seq, generator=generator) < 1 / shape.documents
    return torch.where(begins, torch.arange(shape.seq), 0).cummax(1).values.int()


def mask_of(shape: Shape, starts: Tensor | None) -> Tensor | None:
    """bool [batch, 1, seq, seq], True where a query may look; None for plain causal attention."""
    if starts is None:
        return None
    place = torch.arange(shape.seq)
    return ((place <= place[:, None]) & (place >= starts[:, :, None]))[:, None]


def sdpa(qkv: Tensor, shape: Shape, mask: Tensor | None) -> Tensor:
    apart = qkv.view(*qkv.shape[:2], shape.heads + 2 * shape.kv_heads, shape.head_dim).transpose(1, 2)
    queries, keys, values = apart.split((shape.heads, shape.kv_heads, shape.kv_heads), 1)
    grouped = shape.heads != shape.kv_heads
    out = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
    )
    return out.transpose(1, 2).flatten(2)


def interleaved(work: dict[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each, taken in turns so that a disturbance hits all alike."""
    wall: dict[str, list[float]] = {name: [] for name in work}
    cpu: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(runs + 1):  # the first warms up
        for name, once in work.items():
            cpu_start, start = time.process_time(), time.perf_counter()
            once()
            if round_:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
    return {
        name: {"wall": statistics.median(wall[name]), "cpu": statistics.median(cpu[name])} for name in work
    }


def error_of(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


def errors(shape: Shape, qkv: Tensor, grad_out: Tensor, starts: Tensor | None) -> dict[str, float]:
    """Of both in forward and backward direction, on the beginning of the first row."""
    seq = min(shape.seq, LONGEST_CHECKED)
    qkv, grad_out = qkv[:1, :seq].contiguous(), grad_out[:1, :seq].contiguous()
    starts = None if starts is None else starts[:1, :seq].contiguous()
    part = Shape(1, seq, shape.heads, shape.kv_heads, shape.head_dim, shape.dtype, shape.documents)
    heads = shape.heads, shape.kv_heads
    true_out, _ = plain_attention_forward(qkv.double(), *heads, starts)
    true_grad = plain_attention_backward(grad_out.double(), qkv.double(), *heads, starts)
    out, lse = attention_forward(qkv, *heads, starts)
    leaf = qkv.clone().requires_grad_()
    theirs = sdpa(leaf, part, mask_of(part, starts))
    (their_grad,) = torch.autograd.grad(theirs, leaf, grad_out)
    return {
        "forward_error": error_of(out, true_out),
        "forward_error_sdpa": error_of(theirs.detach(), true_out),
        "backward_error": error_of(attention_backward(grad_out, qkv, out, lse, *heads, starts), true_grad),
        "backward_error_sdpa": error_of(their_grad, true_grad),
    }


def measure(shape: Shape, runs: int, peak: float) -> dict[str, Any]:
    """One line of the table; `peak` is the rate of the matrix product in FLOP/s."""
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, shape.dtype)
    width, heads = shape.heads * shape.head_dim, (shape.heads, shape.kv_heads)
    qkv_width = width + 2 * shape.kv_heads * shape.head_dim
    qkv = torch.randn(shape.batch, shape.seq, qkv_width, generator=generator).to(dtype)
    grad_out = torch.randn(shape.batch, shape.seq, width, generator=generator).to(dtype)
    starts = starts_of(shape)
    mask = mask_of(shape, starts)
    out, lse = attention_forward(qkv, *heads, starts)
    leaf = qkv.clone().requires_grad_()

    def ours_both() -> None:
        mixed, sums = attention_forward(qkv, *heads, starts)
        attention_backward(grad_out, qkv, mixed, sums, *heads, starts)

    def theirs_forward() -> None:
        with torch.no_grad():
            sdpa(qkv, shape, mask)

    times = interleaved(
        {
            "forward": lambda: attention_forward(qkv, *heads, starts),
            "forward_sdpa": theirs_forward,
            "both": ours_both,
            "both_sdpa": lambda: torch.autograd.grad(sdpa(leaf, shape, mask), leaf, grad_out),
            "backward": lambda: attention_backward(grad_out, qkv, out, lse, *heads, starts),
        },
        runs,
    )
    place = torch.arange(shape.seq)
    seen = (place + 1 - (0 if starts is None else starts)).expand(shape.batch, -1).sum()
    product = 2.0 * shape.head_dim * shape.heads * float(seen)
    work = {"forward": 2 * product, "backward": 5 * product, "both": 7 * product}
    return {
        **asdict(shape),
        **{
            f"{name}_{clock}_ms": 1e3 * value for name, both in times.items() for clock, value in both.items()
        },
        **{f"{name}_gflops": flop / times[name]["wall"] / 1e9 for name, flop in work.items()},
        **{f"{name}_share": flop / times[name]["wall"] / peak for name, flop in work.items()},
        "forward_times_sdpa": times["forward_sdpa"]["wall"] / times["forward"]["wall"],
        "both_times_sdpa": times["both_sdpa"]["wall"] / times["both"]["wall"],
        "both_times_sdpa_cpu": times["both_sdpa"]["cpu"] / times["both"]["cpu"],
        **errors(shape, qkv, grad_out, starts),
    }


# Heading, width, and what stands below it.
COLUMNS: tuple[tuple[str, int, Callable[[dict[str, Any]], str]], ...] = (
    ("batch x seq", 12, lambda row: f"{row['batch']} x {row['seq']}"),
    ("heads x dim", 12, lambda row: f"{row['heads']}/{row['kv_heads']} x {row['head_dim']}"),
    ("dtype", 8, lambda row: row["dtype"]),
    ("document", 8, lambda row: str(row["documents"] or "row")),
    ("fwd ms", 7, lambda row: f"{row['forward_wall_ms']:.2f}"),
    ("GFLOPS", 6, lambda row: f"{row['forward_gflops']:.0f}"),
    ("share", 5, lambda row: f"{row['forward_share']:.0%}"),
    ("of SDPA", 7, lambda row: f"{row['forward_times_sdpa']:.1f}x"),
    ("bwd GFLOPS", 10, lambda row: f"{row['backward_gflops']:.0f}"),
    ("fwd+bwd ms", 10, lambda row: f"{row['both_wall_ms']:.2f}"),
    ("SDPA ms", 8, lambda row: f"{row['both_sdpa_wall_ms']:.2f}"),
    ("GFLOPS", 6, lambda row: f"{row['both_gflops']:.0f}"),
    ("share", 5, lambda row: f"{row['both_share']:.0%}"),
    ("of SDPA", 7, lambda row: f"{row['both_times_sdpa']:.1f}x"),
    ("by CPU", 6, lambda row: f"{row['both_times_sdpa_cpu']:.1f}x"),
    ("error fwd", 9, lambda row: f"{row['forward_error']:.1e}"),
    ("SDPA", 7, lambda row: f"{row['forward_error_sdpa']:.1e}"),
    ("error bwd", 9, lambda row: f"{row['backward_error']:.1e}"),
    ("SDPA", 7, lambda row: f"{row['backward_error_sdpa']:.1e}"),
)


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0: those torch takes")
    parser.add_argument("--shapes", default="", help="numbers of lines, from 0; all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        chosen = (
            [int(number) for number in options.shapes.split(",")] if options.shapes else range(len(SHAPES))
        )
    except ValueError:
        parser.error(f"--shapes {options.shapes}: needs numbers with commas between them")
    if options.runs < 1 or not all(0 <= number < len(SHAPES) for number in chosen):
        parser.error(f"--runs from 1, --shapes from 0 to {len(SHAPES) - 1}")
    if options.threads:
        torch.set_num_threads(options.threads)
    if not attention_kernel_available():
        raise SystemExit(
            "attention: no compiled kernels here (gcc, or HAINA_C_KERNELS=0), nothing to compare"
        )
    peaks = {dtype: measure_matmul(dtype, 1.0).median for dtype in ("bfloat16", "float32")}
    conditions = {
        "machine": describe_machine().cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul_gflops": {dtype: rate / 1e9 for dtype, rate in peaks.items()},
        "convention": "causal work: keys a query may look at; 4 * head_dim FLOP each forward, 10 backward",
        "runs": options.runs,
    }
    print(", ".join(f"{name}: {value}" for name, value in conditions.items()))
    print(" ".join(f"{heading:>{width}}" for heading, width, _ in COLUMNS))
    rows = []
    for number in chosen:
        rows.append(measure(SHAPES[number], options.runs, peaks[SHAPES[number].dtype]))
        print(" ".join(f"{cell(rows[-1]):>{width}}" for _, width, cell in COLUMNS), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
