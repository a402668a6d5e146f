"""Claim: the same weights give transformers' logits to 1e-5 in float32: Llama, Baichuan, Baichuan 2, Qwen3.

Each model is a folder on the disk, opened by Haina and by transformers: a Llama and a Qwen3 folder that Haina has
saved, and a Baichuan (W_pack) and a Baichuan 2 (W_pack, NormHead) folder written here in their published layout.
transformers has no Baichuan code of its own; its side of these two is the LlamaForCausalLM of the same weights, for
Baichuan 2 with the rows of the head divided by their length, which is what the Baichuan 2 page describes.

Weights are random: as initialised (N(0, 0.02)) and, in the rows "x3", three times as large, where attention is sharp,
logits are as large as a trained model's, and rounding is amplified from layer to layer. Printed: the largest
absolute difference to transformers with its fused and with its plain ("eager") attention, and of each of the three to
Haina's own forward pass in float64: how much of a difference any order of summation in float32 makes.

Run: OMP_NUM_THREADS=1 python benchmarks/logits.py [--sequence 512] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import haina.model
from haina.model import ModelConfig, Transformer
from haina.model.huggingface import config_json
from haina.runtime.devices import describe_machine

WIDTHS: dict[str, dict[str, int]] = {
    "256 x 6": {
        "vocab_size": 8192,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
    },
    "1024 x 10": {
        "vocab_size": 32000,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 10,
        "num_attention_heads": 16,
    },
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"grouped": True},
    "Qwen3": {"grouped": True, "qk_norm": True, "tie_word_embeddings": True},
    "Baichuan W_pack": {"architecture": "BaiChuanForCausalLM"},
    "Baichuan 2 NormHead": {"architecture": "BaichuanForCausalLM", "normalized_head": True},
}
GAINS = (1.0, 3.0)
TARGET = 1e-5


def build(width: dict[str, int], family: dict[str, Any], gain: float, sequence: int) -> Transformer:
    """A random model; norms are away from 1, so that a forgotten one shows."""
    config = ModelConfig(
        **width,
        num_key_value_heads=width["num_attention_heads"] // (4 if family.get("grouped") else 1),
        max_position_embeddings=sequence,
        qk_norm=family.get("qk_norm", False),
        normalized_head=family.get("normalized_head", False),
        tie_word_embeddings=family.get("tie_word_embeddings", False),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = Transformer(config)
    model.initialize(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
            else:
                parameter.uniform_(0.7, 1.3, generator=generator)
    return model


def write_baichuan(model: Transformer, folder: Path, architecture: str) -> None:
    """The published layout: query, key and value of a layer below one another in W_pack; words of its config.json."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    for layer in range(model.config.num_hidden_layers):
        prefix = f"model.layers.{layer}.self_attn."
        fused = torch.cat([state.pop(f"{prefix}{part}_proj.weight") for part in "qkv"])
        state[f"{prefix}W_pack.weight"] = fused
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    words = {"architectures": [architecture], "model_type": "baichuan", "hidden_act": "silu"}
    shape = model.config.model_dump(
        exclude={"num_key_value_heads", "head_dim", "rope_theta", "qk_norm", "normalized_head"}
    )
    (folder / "config.json").write_text(json.dumps(words | shape), "utf-8")


def open_both(
    model: Transformer, family: dict[str, Any], folder: Path
) -> tuple[Transformer, dict[str, torch.nn.Module]]:
    """The folder in Haina; and in transformers, with fused and with eager attention."""
    kinds = {"fused": "sdpa", "eager": "eager"}
    if "architecture" not in family:
        haina.model.save(model, folder, dtype=torch.float32)
        ours = haina.model.load(folder)
        theirs = {
            kind: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=name)
            for kind, name in kinds.items()
        }
        return ours, theirs
    write_baichuan(model, folder, family["architecture"])
    ours = haina.model.load(folder)
    assert ours.config == model.config
    state = {name: value.detach() for name, value in model.state_dict().items()}
    if model.config.normalized_head:
        head = state["lm_head.weight"]
        state["lm_head.weight"] = head / head.pow(2).sum(-1, keepdim=True).sqrt()
    theirs = {}
    for kind, name in kinds.items():
        config = LlamaConfig(**config_json(model.config, torch.float32))
        peer = LlamaForCausalLM._from_config(config, attn_implementation=name, dtype=torch.float32)
        peer.load_state_dict(state, strict=True)
        theirs[kind] = peer
    return ours, theirs


def largest(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference."""
    return float((first.double() - second.double()).abs().max())


@torch.inference_mode()
def measure(width: str, family: str, gain: float, sequence: int) -> dict[str, Any]:
    """One row of the table."""
    model = build(WIDTHS[width], FAMILIES[family], gain, sequence)
    with tempfile.TemporaryDirectory() as work:
        ours, theirs = open_both(model, FAMILIES[family], Path(work) / "model")
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, model.config.vocab_size, (1, sequence), generator=generator)
    logits = ours(tokens)
    others = {kind: peer.eval()(tokens).logits for kind, peer in theirs.items()}
    exact = ours.double()(tokens)
    return {
        "family": family,
        "shape": width,
        "gain": gain,
        "logits_std": float(exact.std()),
        "ours_theirs": largest(logits, others["fused"]),
        "ours_theirs_eager": largest(logits, others["eager"]),
        "ours_exact": largest(logits, exact),
        "theirs_exact": largest(others["fused"], exact),
        "theirs_eager_exact": largest(others["eager"], exact),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.sequence < 1:
        parser.error("--sequence from 1")
    conditions = {
        "machine": f"{describe_machine().cpu}, {torch.get_num_threads()} threads",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "sequence": arguments.sequence,
    }
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"{'':36s} {'logits':>7s} {'haina - transformers':>21s} {'to float64':>32s}")
    print(
        f"{'family':20s} {'shape':10s} {'w':4s} {'std':>7s} {'fused':>10s} {'eager':>10s} "
        f"{'haina':>10s} {'fused':>10s} {'eager':>10s}"
    )
    rows = []
    for width in WIDTHS:
        for family in FAMILIES:
            for gain in GAINS:
                row = measure(width, family, gain, arguments.sequence)
                rows.append(row)
                print(
                    f"{family:20s} {width:10s} x{gain:<3.0f} {row['logits_std']:7.2f} {row['ours_theirs']:10.1e} "
                    f"{row['ours_theirs_eager']:10.1e} {row['ours_exact']:10.1e} {row['theirs_exact']:10.1e} "
                    f"{row['theirs_eager_exact']:10.1e}",
                    flush=True,
                )
    worst = max(row["ours_theirs"] for row in rows)
    verdict = "yes" if worst <= TARGET else "NO"
    print(f"largest difference to transformers: {worst:.1e} (target <= {TARGET:.0e}): {verdict}")
    if arguments.json:
        report = {"conditions": conditions, "target": TARGET, "largest": worst, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
