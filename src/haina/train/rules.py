"""Sizes of a model and of its training in, hyper-parameters out: the rules of the recipe, one pure function each.

Each carries a few numbers tuned on a small model (the anchor) to another size by exponents that were published or
measured here (docs/decisions/0027-training-recipe.md). Imports no torch: the command line works with these.

Symbols: N parameters, D tokens of the whole run, B tokens of a step, h hidden size.
"""

from __future__ import annotations

import math

# The anchor: 10M tokens, for which B is 4,096.
ANCHOR_TOKENS = 10_000_000
ANCHOR_STEP_TOKENS = 4096
MATRIX_RATE = 0.0085
EMBEDDING_RATE = 0.015

BATCH_EXPONENT = 0.462
RATE_BATCH_EXPONENT = 0.5
RATE_TOKENS_EXPONENT = -0.32
MOST_RAISED = 2.0
Z_LOSS = 1e-5
DECAY_SHARE = 0.7
LAST_RATE = 0.01
WARMUP_SHARE = 0.02
LONG_RUN = 10_000  # steps
SHORTEST_WARMUP, LONGEST_WARMUP = 10, 2000
SHORTEST_WINDOW = 512


def power_of_two(value: float) -> int:
    """The power of two nearest to `value` by ratio, at least 1."""
    return 1 << max(0, round(math.log2(max(value, 1.0))))


def sequence_length(hidden_size: int, window: int) -> int:
    """Tokens a row: the largest power of two up to 2 h, at least 512, and never above `window`.

    Attention's products cost S / (6 h) of those of the matrices (of a block with 12 h^2 weights): a third, at most,
    above the shortest.
    """
    largest = 1 << int(math.log2(2 * hidden_size))
    return min(window, max(SHORTEST_WINDOW, largest))


def step_tokens(tokens: int) -> float:
    """B = 4,096 * (D / 10M)^0.462: the batch above which more data-parallelism stops paying grows with the data and
    not with the model (Bergsma et al. 2025, arXiv 2505.13738: exponent of the critical batch 0.462; Zhang et al. 2024,
    arXiv 2410.21676: 0.47). The anchor was tuned here.
    """
    return ANCHOR_STEP_TOKENS * (tokens / ANCHOR_TOKENS) ** BATCH_EXPONENT


def _moved(tokens: int, batch_tokens: float) -> float:
    """How far a rate of the anchor moves: sqrt(B) for the noise of the gradient (arXiv 2205.10287), D^-0.32 for the
    length of the run at equal batch (arXiv 2603.28743); at most twice, for runs shorter than what was tried.
    """
    batch = (batch_tokens / ANCHOR_STEP_TOKENS) ** RATE_BATCH_EXPONENT
    return min(MOST_RAISED, batch * (tokens / ANCHOR_TOKENS) ** RATE_TOKENS_EXPONENT)


def matrix_rate(tokens: int, batch_tokens: float) -> float:
    """Muon's peak, relative to an orthogonal matrix times sqrt(max(1, rows / columns)).

    That scale makes the change of a matrix's output independent of its width (Yang et al. 2023, spectral condition,
    arXiv 2310.17813), so the rate does not depend on it; nor does it on the depth, as far as was measured.
    """
    return MATRIX_RATE * _moved(tokens, batch_tokens)


def embedding_rate(tokens: int, batch_tokens: float) -> float:
    """AdamW's peak for embeddings, head and norms. A row of the embedding is read alone, so the rate that suits it does
    not depend on the width (Yang et al. 2022, arXiv 2203.03466, table 8).
    """
    return EMBEDDING_RATE * _moved(tokens, batch_tokens)


def adamw_rate(parameters: int) -> float:
    """AdamW's peak where it trains everything: 0.0047 / 2 * (N / 108M)^(-1/3), the ladder of OLMo-core."""
    return 0.0047 / 2 * (parameters / 108e6) ** (-1 / 3)


def matrix_momentum(steps: int) -> float:
    """Muon's momentum: 0.9 was better than 0.95 in every run measured, of 200 to 2,000 steps; 0.95, what its authors
    choose, is for runs much longer than those.
    """
    return 0.95 if steps >= LONG_RUN else 0.9


def weight_decay(parameters: int, tokens: int, batch_tokens: float, rate: float) -> float:
    """The decay whose memory 1 / (rate * decay), in steps, is 1.08 * (D / N)^-0.527 of the run: the longer a model is
    trained for its size, the shorter (Bergsma et al. 2025, arXiv 2505.13738).
    """
    share = 1.084 * (tokens / parameters) ** -0.527
    return batch_tokens / (rate * share * tokens)


def warmup_steps(steps: int) -> int:
    """2 % of the steps, at least 10 and at most 2,000, and never more than a quarter."""
    wanted = min(max(SHORTEST_WARMUP, round(WARMUP_SHARE * steps)), LONGEST_WARMUP)
    return min(wanted, steps // 4)


def rounded(value: float, digits: int = 3) -> float:
    """To so many significant digits: a rule is not more exact than that, and a recipe is read by people."""
    return float(f"{value:.{digits}g}")
