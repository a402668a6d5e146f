"""Loss, optimizer, schedule, evaluation and checkpoints, each against its plain definition."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.model import ModelConfig, Transformer
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.shards.batch import BATCH_PIECE, Batch
from haina.train import TrainConfig
from haina.train.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_tensors,
    prune,
    save_checkpoint,
    tensors_of,
    verify_checkpoint,
)
from haina.train.evaluation import held_out_loss, validation_windows
from haina.train.hardware import Hardware
from haina.train.loop import Trainer
from haina.train.loss import chunked_loss, plain_loss
from haina.train.optimizer import build_optimizer, set_learning_rate
from haina.train.schedule import learning_rate


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 40),
    chunk=st.integers(1, 50),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    seed=st.integers(0, 2**16),
)
def test_chunked_loss_is_the_plain_loss(tokens, chunk, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 6, generator=generator, dtype=torch.float32) * scale
    weight = torch.randn(17, 6, generator=generator)
    targets = torch.randint(0, 17, (tokens,), generator=generator)
    results = []
    for function, extra in ((plain_loss, ()), (chunked_loss, (chunk, torch.float32))):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = function(h, w, targets, *extra)
        (loss * 0.37).backward()
        results.append((loss.detach(), h.grad, w.grad))
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    counted=st.lists(st.booleans(), min_size=1, max_size=40).filter(any),
    chunk=st.integers(1, 50),
    total=st.sampled_from([None, 1, 77]),
    seed=st.integers(0, 2**16),
)
def test_chunked_loss_leaves_out_what_is_not_counted(counted, chunk, total, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(counted), 6, generator=generator)
    weight = torch.randn(17, 6, generator=generator)
    targets = torch.randint(0, 17, (len(counted),), generator=generator)
    targets[~torch.tensor(counted)] = -100
    results = []
    for function, extra in ((plain_loss, (total,)), (chunked_loss, (chunk, torch.float32, total))):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = function(h, w, targets, *extra)
        loss.backward()
        results.append((loss.detach(), h.grad, w.grad))
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-4, atol=1e-5)
    assert bool((results[1][1][~torch.tensor(counted)] == 0).all())


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
            inputs[row, column : column + size], targets[row, column : column + size] = (
                tokens[:-1],
                tokens[1:],
            )
            positions[row, column : column + size] = np.arange(size)
            segments[row, column : column + size] = segment
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
        trainer = Trainer(
            model,
            build_optimizer(model, TrainConfig()),
            Hardware(torch.device("cpu"), torch.float32, 1),
            TrainConfig(sequence_length=24, micro_batch_size=micro, gradient_accumulation=8 // micro),
            *([None] * 5),
        )
        loss = sum(trainer._backward(batch.rows(start, start + micro)) for start in range(0, 8, micro))
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


def test_chunked_loss_in_bf16_is_near_and_keeps_float32_gradients():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 16, generator=generator, requires_grad=True)
    weight = torch.randn(40, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 40, (50,), generator=generator)
    exact = plain_loss(hidden, weight, targets)
    (wanted,) = torch.autograd.grad(exact, weight)
    rounded = chunked_loss(hidden, weight, targets, 7, torch.bfloat16)
    rounded.backward()
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-2)
    assert weight.grad.dtype == torch.float32
    assert (weight.grad - wanted).norm() < 0.02 * wanted.norm()


def test_chunked_loss_without_gradients_makes_none():
    with torch.no_grad():
        loss = chunked_loss(torch.ones(3, 2), torch.ones(4, 2), torch.tensor([0, 1, 2]), 2, torch.float32)
    assert loss.item() == pytest.approx(math.log(4))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(2, 300),
    warmup=st.integers(0, 50),
    kind=st.sampled_from(["cosine", "wsd"]),
    ratio=st.floats(0, 1),
    share=st.floats(0.05, 1),
)
def test_schedule_rises_then_falls_to_its_floor(steps, warmup, kind, ratio, share):
    config = TrainConfig(
        steps=steps,
        warmup_steps=min(warmup, steps - 1),
        schedule=kind,
        learning_rate=1e-3,
        min_learning_rate_ratio=ratio,
        decay_share=share,
    )
    rates = [learning_rate(step, config) for step in range(steps)]
    peak = config.warmup_steps
    assert all(0 < earlier < later for earlier, later in itertools.pairwise(rates[:peak]))
    assert all(earlier >= later - 1e-15 for earlier, later in itertools.pairwise(rates[peak:]))
    assert max(rates) <= 1e-3 + 1e-15
    assert rates[-1] == pytest.approx(1e-3 * ratio, abs=1e-12)


def test_schedule_by_hand():
    wsd = TrainConfig(
        steps=11,
        warmup_steps=2,
        schedule="wsd",
        decay_share=0.45,
        learning_rate=1.0,
        min_learning_rate_ratio=0.0,
    )
    expected = [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert [learning_rate(step, wsd) for step in range(11)] == pytest.approx(expected)
    cosine = wsd.model_copy(update={"schedule": "cosine"})
    assert learning_rate(6, cosine) == pytest.approx(0.5 * (1 + math.cos(math.pi * 4 / 8)))


def small_model() -> Transformer:
    shape = ModelConfig(
        vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    model = Transformer(shape)
    model.initialize(0)
    return model


def test_adamw_by_hand_decays_matrices_only():
    model = small_model()
    config = TrainConfig(weight_decay=0.5, betas=(0.8, 0.9))
    optimizer = build_optimizer(model, config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    gradients = {name: torch.full_like(value, 0.01) for name, value in before.items()}
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decayed = before[name] * (1 - 0.1 * 0.5) if before[name].dim() > 1 else before[name]
        # After one step the corrected moments are g and g^2.
        expected = decayed - 0.1 * 0.01 / (0.01 + config.epsilon)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)


@settings(max_examples=50, deadline=None)
@given(length=st.integers(0, 200), sequence=st.integers(1, 40), limit=st.integers(1, 300))
def test_validation_windows_predict_every_token_at_most_once(length, sequence, limit):
    tokens = np.arange(length, dtype=np.uint16)
    windows = validation_windows(tokens, sequence, limit)
    predicted = [int(token) for window in windows for token in window[1:]]
    assert len(set(predicted)) == len(predicted)
    assert all(2 <= len(window) <= sequence + 1 for window in windows)
    assert predicted == sorted(predicted)
    if limit >= length + sequence:
        assert predicted == list(range(1, length))
    assert len(windows) <= max(1, limit // sequence)
    assert bool(windows) == (length >= 2)


def test_held_out_loss_weighs_tokens_not_batches():
    model = small_model()
    tokens = np.random.default_rng(0).integers(0, 20, 33).astype(np.uint16)
    windows = validation_windows(tokens, 10, 1000)
    assert [len(window) for window in windows] == [11, 11, 11, 3]
    hardware = Hardware(torch.device("cpu"), torch.float32, 1)
    measured = held_out_loss(model, windows, batch_size=2, chunk=4, hardware=hardware)
    total = 0.0
    for window in windows:
        ids = torch.from_numpy(window)
        log_probabilities = torch.log_softmax(model(ids[None, :-1])[0], dim=-1)
        total -= float(log_probabilities.gather(1, ids[1:, None]).sum().detach())
    assert measured == pytest.approx(total / 32, rel=1e-5)


def test_held_out_documents_are_kept_apart():
    """Token 0 begins a document: each stretch between two of them costs what it costs alone."""
    model = small_model()
    tokens = np.array([5, 6, 7, 0, 8, 9, 10, 11, 0, 0, 12, 13], np.uint16)
    windows = validation_windows(tokens, 11, 1000)
    hardware = Hardware(torch.device("cpu"), torch.float32, 1)
    measured = held_out_loss(model, windows, batch_size=2, chunk=4, hardware=hardware, start_id=0)
    total = count = 0
    for part in ([5, 6, 7], [0, 8, 9, 10, 11], [0], [0, 12, 13]):
        ids = torch.tensor(part)
        log_probabilities = torch.log_softmax(model(ids[None, :-1])[0], dim=-1) if len(part) > 1 else None
        if log_probabilities is not None:
            total -= float(log_probabilities.gather(1, ids[1:, None]).sum().detach())
            count += len(part) - 1
    assert measured == pytest.approx(total / count, rel=1e-5)
    assert math.isnan(held_out_loss(model, [np.array([3, 0])], 1, 4, hardware, start_id=0))


def make(folder, step=3):
    model = small_model()
    optimizer = build_optimizer(model, TrainConfig())
    for parameter in model.parameters():
        optimizer.state[parameter]["exp_avg"].fill_(0.25)
    save_checkpoint(folder, step, tensors_of(model, optimizer), "{}\n", {"note": "海"})
    return model


def test_checkpoint_has_the_same_bytes_wherever_and_whenever_it_is_made(tmp_path):
    make(tmp_path / "one")
    make(tmp_path / "two" / "deeper")
    assert fingerprint_tree(tmp_path / "one") == fingerprint_tree(tmp_path / "two" / "deeper")


def test_checkpoint_gives_back_every_tensor(tmp_path):
    model = make(tmp_path)
    assert verify_checkpoint(checkpoint_path(tmp_path, 3))["note"] == "海"
    other = Transformer(model.config)
    optimizer = build_optimizer(other, TrainConfig())
    load_tensors(checkpoint_path(tmp_path, 3), tensors_of(other, optimizer))
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert bool((optimizer.state[ours]["exp_avg"] == 0.25).all())


def test_checkpoint_is_a_plain_dcp_directory(tmp_path):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    model = make(tmp_path)
    dcp_to_torch_save(checkpoint_path(tmp_path, 3), tmp_path / "all.pt")
    state = torch.load(tmp_path / "all.pt", weights_only=True)
    assert torch.equal(state["model.model.norm.weight"], model.model.norm.weight)


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    make(tmp_path)
    shape = ModelConfig(
        vocab_size=20, hidden_size=16, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    other = Transformer(shape)
    with pytest.raises(HainaError, match="does not fit this model"):
        load_tensors(checkpoint_path(tmp_path, 3), tensors_of(other, build_optimizer(other, TrainConfig())))


def test_prune_keeps_what_an_undisturbed_run_would_have(tmp_path):
    scheduled = {10, 20, 30, 35}

    def after(*steps):
        for path in list_checkpoints(tmp_path):
            path.rmdir()
        for step in steps:
            checkpoint_path(tmp_path, step).mkdir()
        (tmp_path / "step-00000040.partial").mkdir()
        prune(tmp_path, scheduled, keep=2)
        assert not list(tmp_path.glob("*.partial"))
        return [int(path.name[5:]) for path in list_checkpoints(tmp_path)]

    assert after(10, 20, 30) == [20, 30]
    assert after(10, 20, 25) == [10, 20, 25]
    assert after(10, 20, 25, 30) == [20, 30]
    assert after(3) == [3]
    assert after(20, 30, 33, 35) == [30, 35]
