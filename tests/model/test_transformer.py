"""The transformer against itself: a cache changes nothing, positions are relative, initialisation repeats."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.model import ConcatenatedCache, ModelConfig, Transformer
from haina.model.attention import segment_mask
from haina.model.rotary import rotary_angles, rotate
from haina.model.transformer import RMSNorm

LENGTH = 24


def tiny(kv_heads: int = 2, tied: bool = True, layers: int = 2) -> Transformer:
    config = ModelConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    model = Transformer(config)
    model.initialize(3)
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from the small initial weights, so that a wrong mask or position shows in the logits.
            parameter.mul_(8.0 if parameter.dim() > 1 else 1.3)
    return model.eval()


MODELS = {heads: tiny(heads) for heads in (4, 2, 1)}
TOKENS = torch.randint(0, 97, (2, LENGTH), generator=torch.Generator().manual_seed(5))


@settings(max_examples=30, deadline=None)
@given(
    kv_heads=st.sampled_from(sorted(MODELS)),
    cuts=st.sets(st.integers(1, LENGTH - 1), max_size=LENGTH - 1),
)
def test_any_chunking_with_a_cache_equals_the_whole(kv_heads, cuts):
    model = MODELS[kv_heads]
    borders = [0, *sorted(cuts), LENGTH]
    cache = ConcatenatedCache(model.config.num_hidden_layers)
    with torch.no_grad():
        pieces = []
        for start, end in itertools.pairwise(borders):
            assert cache.length == start
            pieces.append(model(TOKENS[:, start:end], cache))
        whole = model(TOKENS)
    assert cache.length == LENGTH
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_later_tokens_change_nothing_earlier():
    model = MODELS[2]
    changed = TOKENS.clone()
    changed[:, 15:] = (changed[:, 15:] + 1) % 97
    with torch.no_grad():
        before, after = model(TOKENS), model(changed)
    torch.testing.assert_close(before[:, :15], after[:, :15], rtol=1e-5, atol=1e-5)
    assert (before[:, 15:] - after[:, 15:]).abs().max() > 0.1


def test_only_relative_positions_matter_and_they_do():
    model = MODELS[4]
    positions = torch.arange(LENGTH)
    with torch.no_grad():
        here = model(TOKENS)
        shifted = model(TOKENS, positions=positions + 17)
        per_row = model(TOKENS, positions=torch.stack((positions, positions + 17)))
        spread = model(TOKENS, positions=positions * 3)
    torch.testing.assert_close(here, shifted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(per_row[1], shifted[1], rtol=1e-4, atol=1e-4)
    assert (here - spread).abs().max() > 0.1


def test_rotation_by_hand():
    cos, sin = rotary_angles(torch.tensor([0, 3]), head_dim=4, theta=100.0)
    heads = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 1, 2, 4)
    turned = rotate(heads, cos, sin)
    torch.testing.assert_close(turned[0, 0, 0], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    # Pair (1, 3) turns by 3 / 100^0 = 3 rad, pair (2, 4) by 3 / 100^(1/2) = 0.3 rad.
    first, second = (
        complex(1, 3) * complex(cos[1, 0], sin[1, 0]),
        complex(2, 4) * complex(cos[1, 1], sin[1, 1]),
    )
    assert cos[1].tolist() == pytest.approx([-0.9899925, 0.9553365], abs=1e-6)
    expected = torch.tensor([first.real, second.real, first.imag, second.imag])
    torch.testing.assert_close(turned[0, 0, 1], expected)


def test_rms_norm_computes_in_float32():
    norm = RMSNorm(8, 1e-6).to(torch.bfloat16)
    values = (torch.arange(1.0, 9.0) * 1e-3).to(torch.bfloat16)
    wide = values.float()
    expected = (wide / (wide.pow(2).mean() + 1e-6).sqrt()).to(torch.bfloat16)
    assert torch.equal(norm(values), expected)


def test_initialisation_is_repeatable_and_scaled():
    first, again, other = (Transformer(tiny(layers=8).config) for _ in range(3))
    first.initialize(1)
    again.initialize(1)
    other.initialize(2)
    weights = {name: parameter.detach() for name, parameter in first.named_parameters()}
    assert all(torch.equal(parameter, weights[name]) for name, parameter in again.named_parameters())
    assert not torch.equal(other.lm_head.weight, first.lm_head.weight)
    written = torch.cat(
        [weights[name].flatten() for name in weights if "o_proj" in name or "down_proj" in name]
    )
    read = torch.cat([weights[name].flatten() for name in weights if "q_proj" in name or "up_proj" in name])
    assert float(read.std()) == pytest.approx(0.02, rel=0.05)
    assert float(written.std()) == pytest.approx(0.02 / 4, rel=0.05)


def test_tied_model_shares_one_matrix():
    assert MODELS[2].lm_head.weight is MODELS[2].model.embed_tokens.weight
    untied = tiny(tied=False)
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


@settings(max_examples=10, deadline=None)
@given(
    cuts=st.lists(st.integers(1, LENGTH - 1), min_size=0, max_size=5, unique=True),
    heads=st.sampled_from([4, 2, 1]),
)
def test_documents_of_a_packed_row_do_not_see_each_other(cuts, heads):
    """Logits and gradients of a row are those of its documents alone."""
    model = MODELS[heads]
    borders = [0, *sorted(cuts), LENGTH]
    sizes = [stop - start for start, stop in itertools.pairwise(borders)]
    positions = torch.cat([torch.arange(size) for size in sizes]).expand(2, -1)
    segments = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)]).expand(2, -1)
    packed = model(TOKENS, positions=positions, segments=segments)
    alone = [model(TOKENS[:, start:stop]) for start, stop in itertools.pairwise(borders)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), rtol=2e-4, atol=2e-4)
    head = model.model.layers[0].self_attn.q_proj.weight
    (ours,) = torch.autograd.grad(packed.square().mean(), head)
    (plain,) = torch.autograd.grad(torch.cat(alone, dim=1).square().mean(), head)
    torch.testing.assert_close(ours, plain, rtol=2e-3, atol=2e-4 * float(plain.abs().max()))


def test_padding_changes_nothing_and_gives_no_nan():
    model = MODELS[2]
    segments = torch.zeros(2, LENGTH, dtype=torch.int32)
    segments[:, 15:] = -1
    positions = torch.cat([torch.arange(15), torch.arange(LENGTH - 15)]).expand(2, -1)
    logits = model(TOKENS, positions=positions, segments=segments)
    assert bool(logits.isfinite().all())
    torch.testing.assert_close(logits[:, :15], model(TOKENS[:, :15]), rtol=2e-4, atol=2e-4)


def test_the_mask_is_the_one_that_batches_describe():
    segments = torch.tensor([[0, 0, 1, 1, 1, -1], [0, 1, 1, 2, -1, -1]], dtype=torch.int32)
    mask = segment_mask(segments)
    assert mask.shape == (2, 1, 6, 6)
    for row, query, key in itertools.product(range(2), range(6), range(6)):
        visible = key <= query and segments[row, key] == segments[row, query]
        assert bool(mask[row, 0, query, key]) == bool(visible)
