"""Log-probabilities of given tokens: sequences of ids in, nats out. What perplexity and multiple choice are
made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from haina.model import Transformer

BATCH_TOKENS = 4096
LOGIT_ELEMENTS = 1 << 23


def batches_by_length(lengths: Sequence[int], batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of sequences to run side by side: longest first, so that padding is small and the peak comes
    first.

    A batch holds at most `batch_tokens` tokens, padding included, or one sequence.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count


@torch.inference_mode()
def score_batch(
    model: Transformer, sequences: Sequence[Sequence[int]], device: torch.device
) -> list[np.ndarray]:
    """Log-probability of every token but the first, given those before it.

    Padding stands on the right, where causal attention never looks. Logits are made for real positions only
    and for a slice of them at a time, so the vocabulary never meets the whole batch.

    Args:
        model: in evaluation mode.
        sequences: token ids, each of length >= 2.
        device: where the model is.

    Returns:
        float32 [length - 1] for each sequence, in nats.
    """
    inputs = [torch.tensor(sequence[:-1], dtype=torch.int64) for sequence in sequences]
    targets = torch.cat([torch.tensor(sequence[1:], dtype=torch.int64) for sequence in sequences]).to(device)
    lengths = [len(tokens) for tokens in inputs]
    tokens = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(device)
    hidden = model.hidden_states(tokens)
    real = torch.cat([hidden[row, :length] for row, length in enumerate(lengths)])
    rows = max(1, LOGIT_ELEMENTS // model.config.vocab_size)
    scores = torch.cat(
        [
            _target_scores(model, real[at : at + rows], targets[at : at + rows])
            for at in range(0, len(real), rows)
        ]
    )
    return [piece.numpy() for piece in scores.cpu().split(lengths)]


def _target_scores(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """float32 [rows]: log-softmax of the head's logits at `targets`, without a second matrix of that size."""
    logits = model.lm_head(hidden).float()
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
