"""The sampler against distributions worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haina.inference import SamplingParameters
from haina.inference.sampler import Sampler, candidates, penalise_repetition
from haina.runtime.errors import HainaError

PROBABILITIES = torch.tensor([0.05, 0.4, 0.15, 0.3, 0.1])
LOGITS = PROBABILITIES.log()


def frequencies(parameters: SamplingParameters, draws: int = 1500) -> torch.Tensor:
    sampler = Sampler(parameters, [], 5)
    counts = torch.zeros(5)
    for _ in range(draws):
        counts[sampler.next(LOGITS)] += 1
    return counts / draws


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (SamplingParameters(seed=1), [0.05, 0.4, 0.15, 0.3, 0.1]),
        (SamplingParameters(seed=2, top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        # 0.4 + 0.3 = 0.7 falls short of 0.71, so the third stays as well.
        (SamplingParameters(seed=3, top_p=0.71), [0, 0.4 / 0.85, 0.15 / 0.85, 0.3 / 0.85, 0]),
        (SamplingParameters(seed=4, top_p=0.69), [0, 4 / 7, 0, 3 / 7, 0]),
        # top-p counts what top-k has left: 4/8.5 of three, and 0.4 is reached by the first alone.
        (SamplingParameters(seed=5, top_k=3, top_p=0.4), [0, 1, 0, 0, 0]),
        (SamplingParameters(seed=6, top_k=1), [0, 1, 0, 0, 0]),
        (SamplingParameters(seed=7, top_p=1e-9), [0, 1, 0, 0, 0]),
        (SamplingParameters(seed=8, temperature=1e-30), [0, 1, 0, 0, 0]),
        # Temperature 1/2 squares the probabilities.
        (SamplingParameters(seed=9, temperature=0.5), [p**2 / 0.285 for p in (0.05, 0.4, 0.15, 0.3, 0.1)]),
        (SamplingParameters(temperature=0), [0, 1, 0, 0, 0]),
    ],
)
def test_drawn_frequencies(parameters: SamplingParameters, expected: list[float]) -> None:
    if parameters.temperature > 0:
        ids, probabilities = candidates(LOGITS / parameters.temperature, parameters.top_k, parameters.top_p)
        exact = torch.zeros(5).scatter(0, ids, probabilities)
        assert exact.tolist() == pytest.approx(expected, abs=1e-6)
    drawn = frequencies(parameters)
    for seen, wanted in zip(drawn.tolist(), expected, strict=True):
        # Five standard deviations of a binomial share; none where the probability is 0 or 1.
        assert abs(seen - wanted) <= 5 * math.sqrt(max(0.0, wanted * (1 - wanted)) / 1500) + 1e-6


def test_top_p_that_is_reached_exactly_takes_no_more() -> None:
    ids, probabilities = candidates(torch.tensor([0.25, 0.5, 0.25]).log(), 0, 0.5)
    assert (ids.tolist(), probabilities.tolist()) == ([1], [1.0])


def test_ties_go_to_the_lower_id() -> None:
    ids, _ = candidates(torch.zeros(6), 0, 0.4)
    assert ids.tolist() == [0, 1, 2]


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    st.integers(0, 45),
    st.floats(0.01, 1.0),
)
def test_candidates_are_the_smallest_most_likely_set(logits: list[float], top_k: int, top_p: float) -> None:
    scores = torch.tensor(logits)
    ids, probabilities = candidates(scores, top_k, top_p)
    assert len(set(ids.tolist())) == len(ids) >= 1
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    left_out = [score for place, score in enumerate(logits) if place not in set(ids.tolist())]
    assert not left_out or scores[ids].min().item() >= torch.tensor(left_out).max().item()
    kept = scores.sort(descending=True).values[: top_k or None].softmax(-1)
    assert kept[: len(ids)].sum().item() >= top_p - 1e-4
    assert len(ids) == 1 or kept[: len(ids) - 1].sum().item() < top_p + 1e-4


def test_repetition_penalty_weakens_what_was_said() -> None:
    logits = torch.tensor([2.0, -2.0, 3.0, 0.0])
    seen = torch.tensor([True, True, False, False])
    assert penalise_repetition(logits, seen, 2.0).tolist() == [1.0, -4.0, 3.0, 0.0]


def test_repetition_penalty_counts_the_prompt_and_the_text_so_far() -> None:
    sampler = Sampler(SamplingParameters(temperature=0, repetition_penalty=10), [2], 4)
    logits = torch.tensor([1.0, 2.0, 9.0, 4.0])
    # 2 was in the prompt (0.9); then 3 (0.4) and 1 (0.2) weaken as they are said.
    assert [sampler.next(logits) for _ in range(4)] == [3, 1, 0, 2]


def test_the_process_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = [Sampler(SamplingParameters(seed=11), [], 5).next(LOGITS) for _ in range(3)]
    assert len(set(first)) == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("stop", ("",)),
        ("stop", "text"),
        ("seed", 2**63),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(HainaError, match=field):
        SamplingParameters(**{field: value})
