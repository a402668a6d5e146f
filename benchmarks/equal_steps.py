"""Claim: on equal data, in equal steps and at equal size, our recipe leaves fewer held-out bits a byte than litgpt's
pretraining, in Chinese and in English.

Both models have the same width, layers, heads, feed-forward and tied vocabulary, and read the same rows of the same
documents in the same order, the same number of tokens a step; held out are the same whole documents, each by itself.

- litgpt: its GPT class and initialisation, what `litgpt pretrain` does by default: torch's AdamW with its defaults
  (rate 1e-3, betas 0.9 and 0.999, decay 0.01), cosine to 4e-5, gradients clipped at 1, bf16-mixed. Its warm-up of 2,000
  steps would be most of so short a run, so it is 10 % here, and besides its own rate of 1e-3 it gets four times that,
  and twice as much again for as long as that is better. It has no document mask: a row is one text to it.
- Ours: what the dial derives.

Run: python benchmarks/equal_steps.py [--preset ours-3m] [--tokens 3M] [--litgpt FOLDER] [--processes 2]

--litgpt names a folder with the package (pip install --no-deps --target FOLDER litgpt lightning-utilities ...), where
it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from haina.model.config import ModelConfig
from haina.runtime.files import write_json
from haina.shards.batch import IGNORED, Batch
from haina.train.config import TrainConfig
from haina.train.dial import parse_tokens
from haina.train.hardware import Hardware
from haina.train.held_out import Rows
from recipe_runs import Bench, Job, add_arguments, mean_bits, without_nan
from recipe_tokens import ours, spread

RATES = (1e-3, 4e-3)
HIGHEST = 0.064
LOWEST_RATE, WARMUP = 4e-5, 0.1


class LitGpt:
    """litgpt's model trained as its `pretrain` command does; a Learner of recipe_runs."""

    def __init__(self, job: Job, config: TrainConfig, shape: ModelConfig, hardware: Hardware) -> None:
        if job.options["litgpt"]:
            sys.path.insert(0, job.options["litgpt"])
        from litgpt.config import Config  # type: ignore[import-not-found, unused-ignore]
        from litgpt.model import GPT  # type: ignore[import-not-found, unused-ignore]

        torch.manual_seed(job.seed)
        self.config, self.hardware, self.rate = config, hardware, float(job.options["rate"])
        self.model = GPT(
            Config(
                name="equal",
                block_size=config.sequence_length,
                vocab_size=shape.vocab_size,
                padded_vocab_size=shape.vocab_size,
                n_layer=shape.num_hidden_layers,
                n_head=shape.num_attention_heads,
                head_size=shape.head_dim,
                n_query_groups=shape.num_key_value_heads,
                n_embd=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                rotary_percentage=1.0,
                parallel_residual=False,
                bias=False,
                norm_class_name="RMSNorm",
                norm_eps=shape.rms_norm_eps,
                mlp_class_name="LLaMAMLP",
                rope_base=int(shape.rope_theta),
            )
        )
        self._initialise(shape)
        self.model.transformer.wte.weight = self.model.lm_head.weight
        self.model.to(hardware.device)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate)

    @torch.no_grad()
    def _initialise(self, shape: ModelConfig) -> None:
        """As its `initialize_weights`: GPT-NeoX (arXiv 2204.06745)."""
        for name, parameter in self.model.named_parameters():
            if parameter.dim() < 2:
                continue
            deviation = math.sqrt(2 / (5 * shape.hidden_size))
            if name.endswith("proj.weight"):
                deviation = 1 / math.sqrt(shape.hidden_size) / shape.num_hidden_layers
            torch.nn.init.normal_(parameter, 0.0, deviation)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return self.hardware.autocast()

    def _rate(self, step: int) -> float:
        warmup, steps = max(1, round(WARMUP * self.config.steps)), self.config.steps
        if step < warmup:
            return self.rate * step / warmup
        share = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        return LOWEST_RATE + share * (self.rate - LOWEST_RATE)

    def step(self, number: int, batch: Batch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(number)
        total, rows = 0.0, self.config.micro_batch_size
        device = self.hardware.device
        for start in range(0, self.config.rows_per_step, rows):
            part = batch.rows(start, start + rows)
            inputs = torch.from_numpy(part.inputs).to(device)
            targets = torch.from_numpy(part.targets).to(device)
            with self._autocast():
                logits = self.model(inputs)
            flat = logits.flatten(0, 1).float()
            loss = functional.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="sum")
            loss = loss / batch.step_targets
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    @torch.no_grad()
    def nats(self, rows: Rows, documents: int) -> NDArray[np.float64]:
        """Every piece of a document in a row of its own, since this model knows no segments."""
        found = np.zeros(documents, np.float64)
        pieces = list(_pieces(rows))
        pieces.sort(key=lambda piece: len(piece[1]))
        size = self.config.micro_batch_size
        for start in range(0, len(pieces), size):
            group = pieces[start : start + size]
            longest = max(len(piece[1]) for piece in group)
            inputs = torch.zeros(len(group), longest, dtype=torch.int64)
            targets = torch.full((len(group), longest), IGNORED, dtype=torch.int64)
            for row, (_, tokens, wanted) in enumerate(group):
                inputs[row, : len(tokens)] = torch.from_numpy(tokens)
                targets[row, : len(wanted)] = torch.from_numpy(wanted)
            with self._autocast():
                logits = self.model(inputs.to(self.hardware.device)).float()
            costs = functional.cross_entropy(
                logits.flatten(0, 1),
                targets.to(self.hardware.device).reshape(-1),
                ignore_index=IGNORED,
                reduction="none",
            )
            sums = costs.reshape(len(group), longest).double().sum(1).cpu().numpy()
            for (owner, _, _), nats in zip(group, sums, strict=True):
                found[owner] += nats
        return found


def _pieces(rows: Rows) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Owner, tokens and targets of every stretch of a document."""
    found = []
    for row in range(len(rows.inputs)):
        counted = rows.targets[row] >= 0
        segments = rows.segments[row]
        for segment in np.unique(segments[counted]):
            here = counted & (segments == segment)
            found.append((int(rows.owners[row][here][0]), rows.inputs[row][here], rows.targets[row][here]))
    return found


def litgpt(job: Job, config: TrainConfig, shape: ModelConfig, hardware: Hardware) -> LitGpt:
    """The factory that recipe_runs calls."""
    return LitGpt(job, config, shape, hardware)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "equal-steps")
    parser.add_argument("--preset", default="ours-3m")
    parser.add_argument("--tokens", default="3M")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--litgpt", type=Path, help="folder with litgpt, if it is not installed")
    given = parser.parse_args()
    bench = Bench.of(given)
    section = ours({"preset": given.preset}, parse_tokens(given.tokens), bench)
    folder = str(given.litgpt.resolve()) if given.litgpt else ""
    figures: dict[str, Any] = {}
    print("bits a byte of held-out documents, mean and standard deviation over seeds\n")

    def measure(name: str, jobs: list[Job]) -> float:
        """Train and show; the mean of both languages over the seeds."""
        results = bench.results(jobs, litgpt)
        values = {
            language: [
                result["held_out"][language]["bits_per_byte"] if result["held_out"] else math.inf
                for result in results
            ]
            for language in ("zh", "en")
        }
        values["mean"] = [mean_bits(result) for result in results]
        figures[name] = {"parameters": results[0]["parameters"], **values}
        finite = all(map(math.isfinite, values["mean"]))
        columns = "   ".join(f"{language} {spread(bits)}" for language, bits in values.items())
        print(
            f"{name}: {results[0]['parameters']:,} parameters, {results[0]['tokens']:,} tokens: "
            f"{columns if finite else 'diverged'}",
            flush=True,
        )
        return statistics.fmean(values["mean"])

    measure("ours", [Job(f"ours-seed{seed}", section, seed) for seed in range(given.seeds)])
    peer: dict[float, float] = {}
    rates = list(RATES)
    while rates:
        for rate in rates:
            options = {"rate": rate, "litgpt": folder}
            jobs = [
                Job(f"litgpt-{rate:g}-seed{seed}", section, seed, "litgpt", options)
                for seed in range(given.seeds)
            ]
            peer[rate] = measure(f"litgpt, rate {rate:g}", jobs)
        # Where its highest rate is its best one, it has not had its best one yet.
        best = min(peer, key=lambda rate: peer[rate])
        rates = [2 * best] if best == max(peer) and 2 * best <= HIGHEST else []
    for language in ("zh", "en"):
        best = min(min(found[language]) for name, found in figures.items() if name != "ours")
        worst = max(figures["ours"][language])
        print(f"{language}: our worst seed {worst:.4f}, litgpt's best {best:.4f}")
    if given.json:
        write_json(given.json, without_nan({"tokens": given.tokens, "steps": section["steps"], **figures}))


if __name__ == "__main__":
    main()
