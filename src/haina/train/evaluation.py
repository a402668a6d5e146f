"""Held-out tokens and a model in, mean loss per token out.

The measure is token-weighted: the sum of all negative log-probabilities over the number of tokens predicted,
whatever the batches look like. The windows are spread evenly over the held-out shard, the same ones every
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haina.model.transformer import Transformer
from haina.shards.batch import IGNORED
from haina.train.hardware import Hardware
from haina.train.loss import chunked_loss


class TokenStream(Protocol):
    """An array of tokens, or what is sliced like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> NDArray[np.integer]: ...


def validation_windows(tokens: TokenStream, sequence_length: int, max_tokens: int) -> list[NDArray[np.int64]]:
    """Windows of at most `sequence_length + 1` tokens that do not overlap in what they predict.

    Args:
        tokens: the shard's stream of token ids.
        sequence_length: tokens predicted by a full window.
        max_tokens: predict about this many at most; at least one window is taken.

    Returns:
        int64 arrays, each of 2 to sequence_length + 1 tokens, in stream order. Empty if the shard has under
        2 tokens.
    """
    starts = np.arange(0, max(len(tokens) - 1, 0), sequence_length)
    wanted = max(1, max_tokens // sequence_length)
    if len(starts) > wanted:
        starts = starts[(np.arange(wanted) * len(starts)) // wanted]
    return [np.asarray(tokens[start : start + sequence_length + 1], dtype=np.int64) for start in starts]


def _batches(windows: list[NDArray[np.int64]], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Stacks of up to `batch_size` consecutive windows of equal length; only the last may be shorter."""
    start = 0
    while start < len(windows):
        end = start + 1
        while end < len(windows) and end - start < batch_size and len(windows[end]) == len(windows[start]):
            end += 1
        yield np.stack(windows[start:end])
        start = end


def documents_apart(tokens: Tensor, start_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """What keeps the documents of windows apart, as a loader does for training: no document sees another, positions
    restart, and nothing is predicted across a border.

    Args:
        tokens: int64 [windows, length + 1], in which a document begins wherever `start_id` stands.

    Returns:
        targets int64 (-100: not counted), positions int64, segments int64, each [windows, length].
    """
    begins = tokens[:, :-1] == start_id
    places = torch.arange(begins.shape[1], device=tokens.device).expand_as(begins)
    positions = places - torch.where(begins, places, 0).cummax(dim=1).values
    targets = tokens[:, 1:].masked_fill(tokens[:, 1:] == start_id, IGNORED)
    return targets, positions, begins.cumsum(dim=1)


@torch.no_grad()
def held_out_loss(
    model: Transformer,
    windows: list[NDArray[np.int64]],
    batch_size: int,
    chunk: int,
    hardware: Hardware,
    start_id: int | None = None,
) -> float:
    """Mean negative log-probability, in nats a token, of every token of `windows` but their first; with `start_id`
    documents are kept apart, and where one begins nothing is predicted.
    """
    total, count = 0.0, 0
    for batch in _batches(windows, batch_size):
        tokens = torch.from_numpy(batch).to(hardware.device)
        targets, positions, segments = tokens[:, 1:], None, None
        if start_id is not None:
            targets, positions, segments = documents_apart(tokens, start_id)
        with hardware.autocast():
            hidden = model.hidden_states(tokens[:, :-1], None, positions, segments)
        targets = targets.reshape(-1)
        loss = chunked_loss(hidden.flatten(0, 1), model.lm_head.weight, targets, chunk, hardware.dtype, 1)
        total += loss.item()
        count += int((targets >= 0).sum())
    return total / count if count else math.nan
