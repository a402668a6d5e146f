"""Claim: a Haina model folder is the same model in transformers: logits within 1e-4 in fp32, the same token ids.

Opens a model folder in both, on Chinese, English and mixed text, and prints the largest difference; then times one
forward pass of both, interleaved. Run: python benchmarks/parity.py [MODEL_FOLDER]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from haina.model import load
from haina.runtime.tokenizer_file import TokenizerFile

TEXTS = (
    "海纳百川，有容乃大。要打开一个文件，请选择“文件 - 打开”，然后在对话框中选定它。",
    "The sea takes in a hundred rivers. To open a file, choose File - Open and pick it in the dialog.",
    "混合 mixed text：第 12 章，１２３，3.14159, ☃ émigré 漢字 <s> </s>\n\ttabs",
)
ROUNDS = 15


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart/model")
    ours, tokenizer = load(folder, dtype=torch.float32), TokenizerFile(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    auto = AutoTokenizer.from_pretrained(folder)
    same, difference = True, 0.0
    with torch.inference_mode():
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=True)
            same = same and auto(text)["input_ids"] == ids
            tokens = torch.tensor([ids])
            difference = max(difference, (ours(tokens) - theirs(tokens).logits).abs().max().item())
        tokens = torch.tensor([tokenizer.encode(TEXTS[0] * 20)[:256]])
        times: dict[str, list[float]] = {"haina": [], "transformers": []}
        for _ in range(ROUNDS):
            for name, model in (("haina", ours), ("transformers", theirs)):
                start = time.perf_counter()
                model(tokens)
                times[name].append(time.perf_counter() - start)
    print(
        f"same token ids: {'yes' if same else 'NO'}; largest logit difference {difference:.2e} (target <= 1e-4)"
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["transformers"] / medians["haina"]
    print(
        f"forward pass of {tokens.shape[1]} tokens: haina {medians['haina'] * 1e3:.1f} ms, "
        f"transformers {medians['transformers'] * 1e3:.1f} ms, ratio {ratio:.2f}, medians of {ROUNDS}"
    )


if __name__ == "__main__":
    main()
