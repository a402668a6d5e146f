"""The transformer against itself and against a forward pass by hand: caches, positions, documents, heads."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.model import ConcatenatedCache, Transformer
from haina.model.attention import segment_mask
from haina.model.norm import RMSNorm
from haina.model.rotary import rotary_angles, rotate

from ..tiny_model import tiny_model

LENGTH = 24


def tiny(kv_heads: int = 2, tied: bool = True, layers: int = 2, **changes: object) -> Transformer:
    return tiny_model(
        3,
        gain=8.0,
        vocab_size=97,
        num_hidden_layers=layers,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        **changes,
    )


MODELS = {heads: tiny(heads) for heads in (4, 2, 1)}
NORMED = tiny(qk_norm=True)
TOKENS = torch.randint(0, 97, (2, LENGTH), generator=torch.Generator().manual_seed(5))


@settings(max_examples=30, deadline=None)
@given(
    model=st.sampled_from([*MODELS.values(), NORMED]),
    cuts=st.sets(st.integers(1, LENGTH - 1), max_size=LENGTH - 1),
)
def test_any_chunking_with_a_cache_equals_the_whole(model, cuts):
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


def test_rotary_tables_are_those_of_transformers_to_the_bit():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    positions = torch.arange(0, 9000, 7)[None]
    for theta, width in ((1e4, 64), (5e5, 128), (777.0, 20)):
        config = LlamaConfig(
            head_dim=width,
            rope_parameters={"rope_type": "default", "rope_theta": theta},
            hidden_size=4 * width,
            num_attention_heads=4,
        )
        expected = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
        for ours, theirs in zip(rotary_angles(positions, width, theta), expected, strict=True):
            assert torch.equal(ours, theirs[..., : width // 2])


def _by_hand(model, tokens):
    """The forward pass in float64, head by head and position by position, from the parameters alone."""
    config = model.config
    weights = {name: parameter.detach().double() for name, parameter in model.named_parameters()}

    def normed(values, weight):
        return values / (values.pow(2).mean() + config.rms_norm_eps).sqrt() * weight

    def turned(values, position):
        half = config.head_dim // 2
        frequencies = [config.rope_theta ** (-pair / half) for pair in range(half)]
        angles = torch.tensor([position * frequency for frequency in frequencies], dtype=torch.float64)
        pairs = torch.complex(values[:half], values[half:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((pairs.real, pairs.imag))

    states = [weights["model.embed_tokens.weight"][token] for token in tokens]
    for layer in range(config.num_hidden_layers):
        part = {
            name.split(".", 3)[3].removesuffix(".weight"): weight
            for name, weight in weights.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        ones = torch.ones(config.head_dim, dtype=torch.float64)
        heads = {"q": [], "k": [], "v": []}
        for position, state in enumerate(states):
            inputs = normed(state, part["input_layernorm"])
            for kind, found in heads.items():
                rows = (part[f"self_attn.{kind}_proj"] @ inputs).view(-1, config.head_dim)
                if kind != "v" and config.qk_norm:
                    rows = torch.stack(
                        [normed(row, part.get(f"self_attn.{kind}_norm", ones)) for row in rows]
                    )
                found.append(rows if kind == "v" else torch.stack([turned(row, position) for row in rows]))
        groups = config.num_attention_heads // config.num_key_value_heads
        for position in range(len(states)):
            mixed = []
            for head in range(config.num_attention_heads):
                keys = torch.stack([rows[head // groups] for rows in heads["k"][: position + 1]])
                values = torch.stack([rows[head // groups] for rows in heads["v"][: position + 1]])
                scores = (keys @ heads["q"][position][head] / config.head_dim**0.5).softmax(0)
                mixed.append(scores @ values)
            states[position] = states[position] + part["self_attn.o_proj"] @ torch.cat(mixed)
            inputs = normed(states[position], part["post_attention_layernorm"])
            gate = part["mlp.gate_proj"] @ inputs
            inner = gate / (1 + (-gate).exp()) * (part["mlp.up_proj"] @ inputs)
            states[position] = states[position] + part["mlp.down_proj"] @ inner
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    if config.normalized_head:
        head = head / head.pow(2).sum(-1, keepdim=True).sqrt()
    return torch.stack([head @ normed(state, weights["model.norm.weight"]) for state in states])


@pytest.mark.parametrize(
    "changes",
    [{}, {"qk_norm": True}, {"qk_norm": True, "head_dim": 10}, {"tied": False, "normalized_head": True}],
    ids=["Llama", "QK-norm", "own head_dim", "NormHead"],
)
def test_the_forward_pass_in_float64_is_the_one_by_hand(changes):
    model = tiny(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    tokens = TOKENS[0, :9]
    expected = _by_hand(model, tokens.tolist())
    with torch.no_grad():
        exact = model.double()(tokens[None])[0]
        single = model.float()(tokens[None])[0]
    assert exact.dtype == torch.float64
    # No step of the float64 pass is in float32: that would show at 1e-7 and more.
    torch.testing.assert_close(exact, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.5


def test_head_weight_is_what_the_head_multiplies_with():
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    for model in (tiny(), tiny(tied=False), tiny(tied=False, normalized_head=True)):
        torch.testing.assert_close(model.lm_head(hidden), hidden @ model.head_weight().t())
    lengths = model.head_weight().norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(97))
    assert MODELS[2].head_weight() is MODELS[2].model.embed_tokens.weight


def test_a_normalised_head_passes_its_gradient_on():
    model = tiny(tied=False, normalized_head=True).double()
    hidden = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(3, 97, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (hidden @ model.head_weight().t() * upstream).sum().backward()
    weight = model.lm_head.weight.detach()
    # d(w / |w|) = (1 - u u^T) / |w|, with u = w / |w|.
    lengths = weight.norm(dim=-1, keepdim=True)
    rows = weight / lengths
    plain = upstream.t() @ hidden
    expected = (plain - (plain * rows).sum(-1, keepdim=True) * rows) / lengths
    torch.testing.assert_close(model.lm_head.weight.grad, expected)


def test_folding_a_head_keeps_the_logits_and_makes_it_plain():
    model = tiny(tied=False, normalized_head=True)
    with torch.no_grad():
        model.lm_head.weight.mul_(torch.rand(97, 1, generator=torch.Generator().manual_seed(0)) * 5)
        before = model(TOKENS)
        model.fold_head()
        torch.testing.assert_close(model(TOKENS), before, rtol=1e-5, atol=1e-5)
    assert type(model.lm_head) is torch.nn.Linear
    assert not model.config.normalized_head
    assert torch.equal(model.head_weight(), model.lm_head.weight)
    plain = MODELS[2]
    weight = plain.lm_head.weight.clone()
    plain.fold_head()
    assert torch.equal(plain.lm_head.weight, weight)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight


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
