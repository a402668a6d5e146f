"""The guards: decisions against their plain definition, when training goes back, and which batches follow."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.shards.batch import BATCH_PIECE, Batch
from haina.train.guards import (
    LOSS_HIGH,
    NORM_HIGH,
    NOT_FINITE,
    ROW,
    UPDATE_HIGH,
    Guard,
    limits_plain,
)
from haina.train.guards_config import GuardSection
from haina.train.order import OrderedBatches, batch_number, tokens_outside
from haina.train.readback import Readback
from haina.train.watch import DAMAGED, Reading, Record, Watch

from .small import CPU

INFINITY = float("inf")


def guard_rows(config, steps):
    """Rows of `Guard` for (loss, gradient norm, update norm) of each step."""
    guard, rows = Guard(config, CPU), []
    for loss, norm, update in steps:
        guard.judge(torch.tensor(loss), torch.tensor(norm))
        rows.append(guard.record(torch.tensor(update)).tolist())
    return rows


def plain_rows(config, steps):
    """The same by the book, with lists."""
    entries, streak, risen, ceiling, rows = [[], [], []], 0, 0, INFINITY, []
    for loss, norm, length in steps:
        limits = limits_plain(entries, config.window, config.sigmas)
        finite = math.isfinite(loss) and math.isfinite(norm)
        high = (loss > limits[0], norm > limits[1])
        bad = not finite or any(high)
        update = 0.0 if bad else length
        alarm = not bad and (update > limits[2] or not math.isfinite(update))
        ceiling = min(ceiling, limits[0])
        streak = streak + 1 if bad else 0
        if math.isfinite(loss):
            risen = risen + 1 if loss > ceiling else 0
        if finite and not high[0]:
            last = entries[2][-config.window :]
            usual = sum(last) / max(1, len(last)) if bad or not math.isfinite(update) else update
            for values, value, limit in zip(entries, (loss, norm, usual), limits, strict=True):
                values.append(min(value, limit))
        reasons = NOT_FINITE * (not finite) + LOSS_HIGH * high[0] + NORM_HIGH * high[1] + UPDATE_HIGH * alarm
        rows.append([loss, norm, update, reasons, streak, risen, *limits])
    return rows


float32 = st.floats(0.125, 64.0, width=32)
hostile = st.one_of(
    float32,
    st.sampled_from([0.0, 1e30, 3e38, float("nan"), INFINITY, -INFINITY]),
)


@settings(max_examples=100)
@given(
    steps=st.lists(st.tuples(hostile, hostile, hostile), max_size=40),
    window=st.integers(4, 12),
    sigmas=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
)
def test_decisions_are_those_of_the_plain_definition(steps, window, sigmas):
    config = GuardSection(window=window, sigmas=sigmas)
    found, wanted = guard_rows(config, steps), plain_rows(config, steps)
    for ours, plain in zip(found, wanted, strict=True):
        # Equal up to the rounding of the mean; a loss that lies on its limit may fall on either side.
        near = any(
            math.isfinite(limit) and math.isclose(value, limit, rel_tol=1e-6)
            for value, limit in zip(plain[:3], plain[6:], strict=True)
        )
        if near:
            return
        for name, one, other in zip(ROW, ours, plain, strict=True):
            assert (math.isnan(one) and math.isnan(other)) or one == pytest.approx(other, rel=1e-6), name


def noisy(steps, level=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (float(level + 0.05 * a), float(1 + 0.1 * b), float(0.5 + 0.02 * c))
        for a, b, c in rng.normal(size=(steps, 3))
    ]


def test_a_thousand_ordinary_steps_hold_no_outlier():
    assert not any(row[3] for row in guard_rows(GuardSection(), noisy(1000)))


def test_nothing_is_an_outlier_before_half_the_window_is_there():
    steps = [*noisy(63), (1e6, 1.0, 0.5), *noisy(10)]
    assert not any(row[3] for row in guard_rows(GuardSection(), steps))
    steps = [*noisy(64), (1e6, 1.0, 0.5), *noisy(10)]
    rows = guard_rows(GuardSection(), steps)
    assert [row[3] for row in rows[64:]] == [LOSS_HIGH] + [0] * 10


def test_a_spike_hides_no_other_one_and_a_new_level_of_the_norm_becomes_normal():
    spike = (9.0, 5.0, 0.5)
    rows = guard_rows(GuardSection(), [*noisy(80), spike, spike, *noisy(5, seed=1), spike])
    assert [row[3] for row in rows[80:]] == [LOSS_HIGH | NORM_HIGH] * 2 + [0] * 5 + [LOSS_HIGH | NORM_HIGH]
    higher = [(loss, 1.8 * norm, update) for loss, norm, update in noisy(40, seed=2)]
    rows = guard_rows(GuardSection(), [*noisy(128), *higher])
    skipped = [row[3] for row in rows[128:]]
    assert 0 < sum(reasons == NORM_HIGH for reasons in skipped) < GuardSection().patience
    assert set(skipped[10:]) == {0}


def test_a_loss_that_creeps_up_is_seen_by_the_ceiling_not_by_the_window():
    creeping = [(loss + 0.004 * step, norm, update) for step, (loss, norm, update) in enumerate(noisy(400))]
    rows = guard_rows(GuardSection(), [*noisy(200, seed=4), *creeping])
    assert not any(row[3] for row in rows)
    assert rows[200][ROW.index("risen")] == 0
    assert rows[-1][ROW.index("risen")] > GuardSection().risen_steps


def test_a_larger_update_is_an_alarm_and_skips_nothing():
    steps = noisy(100)
    steps[90] = (*steps[90][:2], 40.0)
    rows = guard_rows(GuardSection(), steps)
    assert [number for number, row in enumerate(rows) if row[3]] == [90]
    assert rows[90][3] == UPDATE_HIGH
    assert rows[90][ROW.index("streak")] == 0


def reading(step, reasons=0, streak=0, risen=0, batch=None, damaged=0):
    limits = (3.5, 2.0, 1.0)
    return Reading(
        step, step - 1 if batch is None else batch, 3.0, 1.0, 0.5, reasons, streak, risen, limits, damaged
    )


def test_bad_steps_in_a_row_lead_back_before_the_first_and_leave_all_of_them_out():
    watch = Watch(GuardSection(patience=3))
    for step in range(1, 21):
        assert watch.read(reading(step)) is None
    assert watch.read(reading(21, NOT_FINITE, 1)) is None
    assert watch.read(reading(22, LOSS_HIGH, 2)) is None
    trouble = watch.read(reading(23, NORM_HIGH, 3))
    assert (trouble.step, trouble.onset, trouble.batches) == (23, 21, (20, 21, 22))
    assert "3 bad steps in a row" in trouble.why
    assert "its limit was 3.5" in trouble.why
    assert watch.record.skipped_steps == 3
    assert watch.go_back(trouble, [5, 10, 15, 20, 21, 22]) == [20, 15, 10, 5, 0]


def test_a_large_update_shortly_before_moves_the_onset():
    watch = Watch(GuardSection(patience=3))
    for step in range(1, 21):
        watch.read(reading(step, UPDATE_HIGH if step in (5, 18, 19) else 0))
    watch.read(reading(21, LOSS_HIGH, 1))
    watch.read(reading(22, LOSS_HIGH, 2))
    trouble = watch.read(reading(23, LOSS_HIGH, 3))
    assert (trouble.onset, trouble.batches) == (18, (17, 20, 21, 22))
    assert watch.record.update_alarms == 3
    assert watch.go_back(trouble, [5, 10, 15, 17, 18, 20])[0] == 17


def test_a_risen_loss_leads_back_and_leaves_out_the_rise():
    watch = Watch(GuardSection(risen_steps=4))
    for step in range(1, 11):
        watch.read(reading(step))
    for number in range(1, 4):
        assert watch.read(reading(10 + number, risen=number)) is None
    trouble = watch.read(reading(14, risen=4))
    assert (trouble.onset, trouble.batches) == (11, (10, 11, 12, 13))
    assert "the loss was too high for 4 steps" in trouble.why


def test_the_same_trouble_leads_further_back_each_time_and_then_to_an_error():
    watch = Watch(GuardSection(patience=2, max_rollbacks=3))
    kept, went = [10, 20, 30], []
    for round_ in range(3):
        watch.read(reading(35, LOSS_HIGH, 1, batch=40 + 2 * round_))
        trouble = watch.read(reading(36, LOSS_HIGH, 2, batch=41 + 2 * round_))
        to = watch.go_back(trouble, kept)[0]
        watch.went_back(trouble, to, Record())
        went.append(to)
    assert went == [30, 20, 10]
    assert watch.record.left_out == [40, 41, 42, 43, 44, 45]
    watch.read(reading(35, LOSS_HIGH, 1))
    trouble = watch.read(reading(36, LOSS_HIGH, 2))
    with pytest.raises(HainaError) as caught:
        watch.go_back(trouble, kept)
    assert "training step 36: 2 bad steps in a row" in caught.value.message
    assert caught.value.message.count("went back from step 36") == 3
    assert "learning_rate" in caught.value.hint


def test_after_a_window_of_good_steps_an_earlier_rollback_is_forgiven():
    watch = Watch(GuardSection(patience=2, max_rollbacks=1, window=10))
    for start in (20, 60, 100):
        watch.read(reading(start, LOSS_HIGH, 1))
        trouble = watch.read(reading(start + 1, LOSS_HIGH, 2))
        watch.went_back(trouble, watch.go_back(trouble, [start - 5])[0], Record())
        for step in range(start - 4, start + 15):
            watch.read(reading(step))
    assert len(watch.record.rollbacks) == 3


def test_a_record_survives_json_and_says_what_was_seen():
    import json

    watch = Watch(GuardSection(patience=2))
    watch.read(reading(3, NOT_FINITE | LOSS_HIGH, 1))
    trouble = watch.read(reading(4, NOT_FINITE, 2, damaged=3))
    watch.record.quarantined = 1
    watch.went_back(trouble, 0, Record())
    again = Record.restore(json.loads(json.dumps(watch.record.state())))
    assert again == watch.record
    assert again.sentence() == "2 steps skipped, 1 batch quarantined, 1 rollback"
    assert again.summary()["skipped_because"] == {
        "loss above its limit": 1,
        "loss or gradient not finite": 1,
        DAMAGED: 1,
    }
    assert Record().sentence() == "0 steps skipped, 0 batches quarantined, 0 rollbacks"


@settings(max_examples=80)
@given(left_out=st.sets(st.integers(0, 60)), steps=st.integers(1, 40))
def test_steps_read_all_batches_in_order_but_those_left_out(left_out, steps):
    wanted = [number for number in range(200) if number not in left_out][:steps]
    assert [batch_number(step, sorted(left_out)) for step in range(steps)] == wanted

    class Source:
        def batch(self, step, rank=0, world=1):
            return step, rank, world

    ordered = OrderedBatches(Source(), tuple(sorted(left_out)))
    assert [ordered.batch(step, 1, 2) for step in range(steps)] == [(number, 1, 2) for number in wanted]


@settings(max_examples=60)
@given(
    inputs=st.lists(st.sampled_from([0, 5, 9, 10, 65535, -1, -(1 << 40)]), min_size=1, max_size=8),
    targets=st.lists(st.sampled_from([-100, 0, 9, 10, 65535, -1]), min_size=1, max_size=8),
)
def test_tokens_outside_the_vocabulary_are_counted(inputs, targets):
    length = min(len(inputs), len(targets))
    arrays = [np.array([values[:length]], np.int64) for values in (inputs, targets)]
    zeros = np.zeros((1, length), np.int32)
    batch = Batch(0, *arrays, zeros, zeros, np.empty(0, BATCH_PIECE), True, length)
    wanted = sum(not 0 <= value < 10 for value in inputs[:length])
    wanted += sum(value != -100 and not 0 <= value < 10 for value in targets[:length])
    assert tokens_outside(batch, 10) == wanted


def test_rows_are_read_in_order_and_as_late_as_asked():
    queue = Readback(CPU)
    queue.push("a", torch.tensor([1.0]))
    assert list(queue.read()) == [("a", [1.0])]
    queue.depth = 2
    for name in "bcde":
        queue.push(name, torch.tensor([2.0]))
    assert [name for name, _ in queue.read()] == ["b", "c"]
    assert [name for name, _ in queue.read(everything=True)] == ["d", "e"]
    queue.push("f", torch.tensor([3.0]))
    queue.clear()
    assert list(queue.read(everything=True)) == []
