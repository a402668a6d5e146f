"""One optimizer step: the same however its rows are dealt out, and without a word from the device to the host."""

import numpy as np
import pytest
import torch

from haina.shards.batch import BATCH_PIECE, Batch
from haina.train import TrainConfig, step
from haina.train.guards import ROW, Guard
from haina.train.guards_config import GuardSection
from haina.train.hardware import Hardware
from haina.train.optimizer import build_optimizer
from haina.train.step import Stepper

from .small import CPU, PLAIN, small_model


def packed_batch(rows, length, seed):
    """Rows of packed documents with padding, 1 to `length` targets each: as uneven as a loader may hand them out."""
    rng = np.random.default_rng(seed)
    inputs, targets = np.zeros((rows, length), np.int64), np.full((rows, length), -100, np.int64)
    positions, segments = np.zeros((rows, length), np.int32), np.full((rows, length), -1, np.int32)
    for row in range(rows):
        column = segment = 0
        filled = 1 + row * (length - 1) // max(1, rows - 1)
        while column < filled:
            size = min(filled - column, int(rng.integers(1, 7)))
            tokens = rng.integers(0, 20, size + 1)
            here = slice(column, column + size)
            inputs[row, here], targets[row, here] = tokens[:-1], tokens[1:]
            positions[row, here] = np.arange(size)
            segments[row, here] = segment
            column, segment = column + size, segment + 1
    pieces = np.empty(0, BATCH_PIECE)
    return Batch(0, inputs, targets, positions, segments, pieces, True, int((targets >= 0).sum()))


def test_a_step_is_the_same_however_its_rows_are_dealt_out():
    """Every target counts the same although micro-batches hold from a few to many; a mean of their means would be
    another loss and another gradient.
    """
    batch = packed_batch(8, 24, 1)
    gradients = {}
    for micro in (8, 4, 2, 1):
        model = small_model()
        config = TrainConfig(
            sequence_length=24, micro_batch_size=micro, gradient_accumulation=8 // micro, z_loss=0.0
        )
        stepper = Stepper(model, build_optimizer(model, config), Guard(GuardSection(), CPU), PLAIN, config)
        loss = stepper.gradients(batch).item()
        gradients[micro] = (loss, [parameter.grad for parameter in model.parameters()])
    # The whole batch by the book: every document alone, one sum, one division.
    model = small_model()
    total = 0.0
    for row in range(8):
        for segment in range(batch.segments[row].max() + 1):
            chosen = batch.segments[row] == segment
            logits = model(torch.from_numpy(batch.inputs[row, chosen])[None])
            targets = torch.from_numpy(batch.targets[row, chosen])
            total = total + torch.nn.functional.cross_entropy(logits[0], targets, reduction="sum")
    loss = total / batch.step_targets
    loss.backward()
    for found, gradient in gradients.values():
        assert found == pytest.approx(loss.item(), rel=1e-5)
        for ours, plain in zip(gradient, model.parameters(), strict=True):
            torch.testing.assert_close(ours, plain.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "muon", "split"])
def test_no_step_waits_for_the_device(kind, monkeypatch):
    """On a device without values every look at one is an error, as `.item()` or an `if` would take. A number that goes
    the other way, in a tensor made of Python's numbers, makes the host wait for a GPU as well.
    """
    meta = torch.device("meta")

    def copied(*arguments, device=None, **named):
        raise AssertionError("a number is copied to the device")

    def sent(array, device):
        return torch.empty(array.shape, dtype=torch.from_numpy(array).dtype, device=device)

    monkeypatch.setattr(step, "on_device", sent)
    split = kind == "split"
    config = TrainConfig(
        optimizer="adamw" if split else kind,
        split_weights=split,
        sequence_length=24,
        micro_batch_size=4,
        precision="bf16" if split else "fp32",
    )
    model = small_model().to(meta)
    optimizer = build_optimizer(model, config)
    stepper = Stepper(
        model,
        optimizer,
        Guard(config.guards, meta),
        Hardware(meta, torch.float32, 1),
        config,
    )
    if split:  # autocast knows no device without values
        monkeypatch.setattr(
            step, "training_states", lambda model, tokens, *rest, dtype: model.model.embed_tokens(tokens)
        )
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter, dtype=torch.float32)
    monkeypatch.setattr(torch, "tensor", copied)
    monkeypatch.setattr(torch.Tensor, "new_tensor", copied)
    with pytest.raises(RuntimeError, match="item"):
        torch.zeros((), device=meta).item()
    for damaged in (False, True, False):
        row = stepper(packed_batch(8, 24, 1), 1e-3, damaged, measure_parameters=True)
        assert row.shape == (len(ROW) + 1,)
        assert row.device == meta
