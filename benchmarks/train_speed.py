"""Claim: a training step on a CPU at 1.6 times the rate of transformers, 1.2 times with torch.compile, 1.5 times
litgpt's, in at most 60 % of the memory.

The same shapes (ours-7m, -30m, -100m as a Qwen3; same parameters) train on random tokens: forward, loss, backward,
clipping at 1.0, AdamW. Ours is `haina bench train`. The peers run as their users run them, eager and with
torch.compile, both with float32 weights under autocast to bf16 and with bf16 weights; what is claimed is against the
faster of the two. transformers computes its own loss (`labels=`), litgpt the chunked cross-entropy of its pretraining.
AdamW is fused everywhere. haina asks for pages of 2 MiB by itself, the peers do not. Every measurement is a process of
its own, the programs take turns, medians over rounds of the median step; memory is the most that was resident in the
process (VmHWM).

litgpt is left out, and said so, where it cannot be imported:
pip install --target DIR litgpt lightning jsonargparse   (then --litgpt DIR)

Run: python benchmarks/train_speed.py [--presets ours-7m,ours-30m,ours-100m] [--rounds 3] [--steps 5] [--batch 8]
     [--seq 512] [--threads N] [--no-compile] [--litgpt DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP = 2
OURS = "haina"
PEERS = ("transformers", "litgpt")
WAYS = ("autocast", "bf16 weights")
TARGETS = {"transformers": 1.6, "transformers, compiled": 1.2, "litgpt": 1.5, "litgpt, compiled": 1.5}
MEMORY_TARGET = 0.6
CLIP, RATE = 1.0, 3e-4


def peak_bytes() -> int:
    """Most that this process had resident."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def shape_of(name: str) -> dict[str, Any]:
    """The Hugging Face configuration of one of our presets, in a process that forgets us again."""
    code = (
        "import json, torch; from haina.model import preset; from haina.model.huggingface import config_json;"
        f"shape = preset({name!r}); found = config_json(shape, torch.float32);"
        "print(json.dumps({'config': found, 'parameters': shape.parameter_count}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_ours(options: argparse.Namespace) -> dict[str, Any]:
    """What `haina bench train --json` prints."""
    from haina.model.config import preset
    from haina.train.config import ModelSection, TrainConfig
    from haina.train.throughput import measure_training

    config = TrainConfig(
        model=ModelSection(preset=options.preset), sequence_length=options.seq, device="cpu", optimizer="adamw",
        micro_batch_size=options.batch, precision="bf16", threads=options.threads,
    )  # fmt: skip
    return measure_training(config, preset(options.preset))


def transformers_model(config: dict[str, Any]) -> Any:
    """A causal language model of this configuration with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config), attn_implementation="sdpa", dtype=torch.float32
    )


def litgpt_model(config: dict[str, Any], length: int) -> Any:
    """The same of litgpt, its embedding tied where the configuration says so."""
    from litgpt.config import Config
    from litgpt.model import GPT

    model = GPT(
        Config(
            name="same-shape", block_size=length, vocab_size=config["vocab_size"],
            padded_vocab_size=config["vocab_size"], n_layer=config["num_hidden_layers"],
            n_head=config["num_attention_heads"], n_embd=config["hidden_size"],
            n_query_groups=config["num_key_value_heads"], head_size=config["head_dim"],
            intermediate_size=config["intermediate_size"], norm_eps=config["rms_norm_eps"],
            rope_base=int(config["rope_theta"]), rotary_percentage=1.0, parallel_residual=False, bias=False,
            norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", norm_qk=config["model_type"] == "qwen3",
        )
    )  # fmt: skip
    if config["tie_word_embeddings"]:
        model.transformer.wte.weight = model.lm_head.weight
    return model


def measure_peer(options: argparse.Namespace) -> dict[str, Any]:
    """Train a peer's model for some steps; tokens a second and the most memory."""
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = json.loads(options.config)
    autocast = options.way == "autocast"
    model = (
        transformers_model(config) if options.program == "transformers" else litgpt_model(config, options.seq)
    )
    parameters = sum(weight.numel() for weight in model.parameters())
    model.train()
    if not autocast:
        model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    run = torch.compile(model) if options.compiled else model
    if options.program == "litgpt":
        from litgpt.utils import chunked_cross_entropy

    def loss_of(ids: Any) -> Any:
        if options.program == "transformers":
            # As its Trainer: no cache, which would copy keys and values.
            return run(input_ids=ids[:, :-1], labels=ids[:, :-1], use_cache=False).loss
        return chunked_cross_entropy(run(ids[:, :-1].contiguous()), ids[:, 1:].contiguous())

    times = []
    for _ in range(WARM_UP + options.steps):
        ids = torch.randint(0, config["vocab_size"], (options.batch, options.seq + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = loss_of(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return {
        "tokens_per_s": options.batch * options.seq / statistics.median(times[WARM_UP:]),
        "peak_memory_bytes": peak_bytes(),
        "parameters": parameters,
    }


def programs(options: argparse.Namespace) -> list[tuple[str, str, bool]]:
    """Program, way, compiled: all that is measured here."""
    found = [(OURS, "", False)]
    for peer in PEERS:
        done = subprocess.run(
            [sys.executable, "-c", f"import {peer}"],
            capture_output=True,
            text=True,
            env=environment(options),
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1]
            print(f"{peer} is left out: {reason}. How to install it stands at the top of this file.\n")
            continue
        for compiled in (False,) if options.no_compile else (False, True):
            found += [(peer, way, compiled) for way in WAYS]
    return found


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Of the measuring processes: all with the same threads, litgpt in reach."""
    paths = [str(options.litgpt)] if options.litgpt else []
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    return {
        **os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": os.pathsep.join(paths),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip


def measured(
    options: argparse.Namespace, name: str, program: tuple[str, str, bool], config: dict[str, Any]
) -> dict[str, Any]:
    """One measurement in a process of its own."""
    kind, way, compiled = program
    command = [
        sys.executable, __file__, "--worker", "--program", kind, "--way", way, "--preset", name, "--config",
        json.dumps(config), "--seq", str(options.seq), "--batch", str(options.batch), "--steps", str(options.steps),
        "--threads", str(options.threads), *(["--compiled"] if compiled else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment(options), check=False)
    if done.returncode:
        raise SystemExit(f"{label(program)} on {name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def label(program: tuple[str, str, bool]) -> str:
    """`transformers, compiled, autocast`."""
    kind, way, compiled = program
    return ", ".join([kind, *(["compiled"] if compiled else []), *([way] if way else [])])


def compare(options: argparse.Namespace, name: str, running: list[tuple[str, str, bool]]) -> dict[str, Any]:
    """All programs on one preset in interleaved rounds; a row of the table for each."""
    shape = shape_of(name)
    runs: dict[str, list[dict[str, Any]]] = {label(program): [] for program in running}
    for _ in range(options.rounds):
        for program in running:
            found = measured(options, name, program, shape["config"])
            if found["parameters"] != shape["parameters"]:
                raise SystemExit(
                    f"{label(program)}: {found['parameters']:,} parameters, not {shape['parameters']:,}"
                )
            runs[label(program)].append(found)
    rates = {key: [run["tokens_per_s"] for run in found] for key, found in runs.items()}
    rate = {key: statistics.median(values) for key, values in rates.items()}
    memory = {
        key: statistics.median([run["peak_memory_bytes"] for run in found]) for key, found in runs.items()
    }
    for key, values in rates.items():
        print(
            f"| {name} | {key} | {rate[key]:,.0f} | {min(values):,.0f} to {max(values):,.0f} "
            f"| {rate[OURS] / rate[key]:.2f} | {memory[key] / 2**20:,.0f} | {memory[OURS] / memory[key]:.0%} |",
            flush=True,
        )
    return {"shape": shape, "runs": runs, "rate": rate, "memory": memory}


def verdicts(name: str, rate: dict[str, float], memory: dict[str, float]) -> list[str]:
    """Against the faster of the two ways of each peer, and the leaner of the two."""
    lines = []
    for peer, target in TARGETS.items():
        keys = [key for way in WAYS if (key := f"{peer}, {way}") in rate]
        if keys:
            ratio = rate[OURS] / max(rate[key] for key in keys)
            share = memory[OURS] / min(memory[key] for key in keys)
            lines.append(
                f"{name} against {peer}: {ratio:.2f} times its rate (target {target}), {share:.0%} of its memory "
                f"(target {MEMORY_TARGET:.0%})"
            )
    return lines


def main() -> None:
    """Measure and print; `--json` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="ours-7m,ours-30m,ours-100m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=5, help="steps of a peer timed in each round; ours: 5 to 50, for 5 s"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled peers out")
    parser.add_argument("--litgpt", type=Path, help="folder where litgpt is installed")
    parser.add_argument("--json", type=Path)
    for hidden in ("--program", "--way", "--preset", "--config"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--worker", "--compiled"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure = measure_ours if options.program == OURS else measure_peer
        print(json.dumps(measure(options)))
        return
    running = programs(options)
    names = options.presets.split(",")
    print(
        f"{options.batch} x {options.seq} tokens a step, {options.threads} threads, {options.rounds} rounds of "
        f"{options.steps} steps\n"
    )
    print("| model | program | tokens/s | range | ours is faster by | peak memory, MiB | ours takes |")
    print("|---|---|---:|---|---:|---:|---:|")
    found = {name: compare(options, name, running) for name in names}
    print()
    for name, result in found.items():
        print("\n".join(verdicts(name, result["rate"], result["memory"])))
        own = result["runs"][OURS]
        share = statistics.median([run["matmul_share"] for run in own])
        print(f"{name}: {share:.0%} of the rate of square bf16 matrix products in the same process")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
