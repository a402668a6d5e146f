"""The fused path of training against the plain model in float64, and never much further from it than autocast is."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from haina.model import ModelConfig, Transformer
from haina.model.fused import fused_obstacle, fused_states, segment_starts
from haina.model.training import plain_states, training_states

TOKENS = torch.zeros(1, 4, dtype=torch.int64)
SHAPES = {
    "llama": {},
    "grouped": {"num_key_value_heads": 2},
    "qk-norm, tied": {"num_key_value_heads": 1, "qk_norm": True, "tie_word_embeddings": True},
    "norm head": {"normalized_head": True},
    "odd sizes": {"hidden_size": 51, "intermediate_size": 33, "num_attention_heads": 3, "head_dim": 10},
}


def model_of(shape, seed=0):
    """Of that name or those sizes, far from its initial values: gains of 1 and small weights hide errors."""
    sizes = {
        "vocab_size": 97, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
        "num_attention_heads": 4, "head_dim": 32, "tie_word_embeddings": False,
    }  # fmt: skip
    model = Transformer(ModelConfig(**sizes | (SHAPES[shape] if isinstance(shape, str) else shape)))
    model.initialize(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * (0.3 if weight.dim() == 1 else 0.08))
    return model


def packed(batch, seq, seed, padding=5):
    """Positions and segments of documents of random lengths, the last stretch of a row being padding."""
    generator = torch.Generator().manual_seed(seed)
    segments = (torch.rand(batch, seq, generator=generator) < 0.08).int().cumsum(1)
    positions = torch.arange(seq) - segment_starts(segments)
    if padding:
        segments[:, -padding:] = -1
        positions[:, -padding:] = torch.arange(padding)
    return positions.int(), segments.int()


def objective(model, states, seed):
    """A scalar that looks at all logits, so that the head and, where tied, the embedding have two gradients."""
    generator = torch.Generator().manual_seed(seed)
    logits = states.to(model.lm_head.weight.dtype) @ model.head_weight().t()
    return (logits * torch.randn(logits.shape, generator=generator).to(logits.dtype)).sum() / 50


def measured(model, tokens, positions, segments, dtype, path):
    """States, then the gradients by parameter name, in float64."""
    model.zero_grad()
    states = path(model, tokens, positions, segments, dtype)
    objective(model, states, 5).backward()
    found = {name: weight.grad.double() for name, weight in model.named_parameters()}
    return {"states": states.detach().double(), **found}


def exact_states(model, tokens, positions, segments, _):
    return model.hidden_states(tokens, None, positions, segments)


def errors(found, exact):
    """Relative, in L2 norm; of what is as good as 0 (the gradient of a query that sees one key), relative to the rest."""
    least = 1e-3 * max(float(value.norm()) for value in exact.values())
    return {
        name: float((found[name] - value).norm()) / max(least, float(value.norm()))
        for name, value in exact.items()
    }


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_as_exact_as_under_autocast(name, documents, dtype):
    model = model_of(name)
    if fused_obstacle(model, TOKENS, dtype):
        pytest.skip(f"not here: {fused_obstacle(model, TOKENS, dtype)}")
    tokens = torch.randint(0, 97, (2, 48), generator=torch.Generator().manual_seed(1))
    positions, segments = packed(2, 48, 2) if documents else (None, None)
    exact = measured(copy.deepcopy(model).double(), tokens, positions, segments, torch.float64, exact_states)
    plain = errors(measured(model, tokens, positions, segments, dtype, plain_states), exact)
    fused = errors(measured(model, tokens, positions, segments, dtype, fused_states), exact)
    bound = 0.03 if dtype == torch.bfloat16 else 5e-6
    for entry, error in fused.items():
        assert error <= 1.3 * plain[entry] + 4 * torch.finfo(torch.float32).eps, entry
        assert error < bound, entry


@st.composite
def cases(draw):
    """A model of any shape, and a batch: rows of one document, packed documents, or packed documents and padding."""
    kv_heads, group, qk_norm = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    heads, head_dim = kv_heads * group, 2 * draw(st.integers(1, 40))
    tied = draw(st.booleans())
    sizes = {
        "hidden_size": draw(st.integers(2, 70)) if qk_norm else heads * draw(st.integers(2, 12)),
        "intermediate_size": draw(st.integers(1, 90)), "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "qk_norm": qk_norm,
        "tie_word_embeddings": tied, "normalized_head": not tied and draw(st.booleans()),
    }  # fmt: skip
    seed, batch, seq = draw(st.integers(0, 99)), draw(st.integers(1, 3)), draw(st.integers(1, 70))
    # A column of a longer batch: not contiguous, as the inputs of a training step may be.
    tokens = torch.randint(0, 97, (batch, seq + 1), generator=torch.Generator().manual_seed(seed))[:, :-1]
    kind = draw(st.sampled_from(["rows", "documents", "padding", "one row of positions"]))
    if kind == "rows":
        return sizes, seed, tokens, None, None
    if kind == "one row of positions":
        return sizes, seed, tokens, torch.arange(seq) + draw(st.integers(0, 900)), None
    positions, segments = packed(batch, seq, seed, padding=min(seq, 5) if kind == "padding" else 0)
    return sizes, seed, tokens, positions, segments


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_shape_and_batch_against_float64(case, dtype):
    sizes, seed, tokens, positions, segments = case
    model = model_of(sizes, seed)
    if fused_obstacle(model, TOKENS, dtype):
        pytest.skip(f"not here: {fused_obstacle(model, TOKENS, dtype)}")
    exact = measured(copy.deepcopy(model).double(), tokens, positions, segments, torch.float64, exact_states)
    fused = errors(measured(model, tokens, positions, segments, dtype, fused_states), exact)
    for entry, error in fused.items():
        assert error < (0.1 if dtype == torch.bfloat16 else 2e-5), entry


def test_gradients_of_micro_batches_add_up_and_steps_repeat_bit_for_bit():
    model = model_of("qk-norm, tied")
    tokens = torch.randint(0, 97, (4, 40), generator=torch.Generator().manual_seed(1))

    def gradients(*parts):
        model.zero_grad()
        for part in parts:
            states = training_states(model, part, dtype=torch.float32)
            (states * torch.linspace(-1, 1, states.shape[-1])).sum().backward()
        return [weight.grad.clone() for weight in model.parameters()]

    whole = gradients(tokens)
    for first, second in zip(whole, gradients(tokens), strict=True):
        assert torch.equal(first, second)
    for together, apart in zip(whole, gradients(tokens[:1], tokens[1:]), strict=True):
        torch.testing.assert_close(apart, together, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


def test_without_gradients_the_states_are_the_same_and_nothing_is_kept():
    model = model_of("grouped")
    tokens = torch.arange(40).view(2, 20)
    states = training_states(model, tokens, dtype=torch.bfloat16)
    with torch.no_grad():
        silent = training_states(model, tokens, dtype=torch.bfloat16)
    assert states.requires_grad
    assert not silent.requires_grad
    assert torch.equal(states, silent)
    assert states.dtype == torch.bfloat16


def test_an_outer_autocast_changes_nothing():
    model = model_of("llama")
    tokens = torch.arange(40).view(2, 20)
    expected = training_states(model, tokens, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(training_states(model, tokens, dtype=torch.float32), expected)


def test_weights_changed_between_two_steps_are_seen():
    model = model_of("llama")
    first = training_states(model, TOKENS, dtype=torch.bfloat16)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(2)
    assert not torch.equal(first, training_states(model, TOKENS, dtype=torch.bfloat16))


def spoilt(how):
    model = model_of("llama")
    block = model.model.layers[0]
    if how == "hook":
        block.mlp.register_forward_hook(lambda *_: None)
    elif how == "other linear":
        block.mlp.up_proj = nn.Sequential(block.mlp.up_proj)
    elif how == "bias":
        block.mlp.up_proj.bias = nn.Parameter(torch.ones(160))
    elif how == "frozen":
        block.mlp.up_proj.weight.requires_grad_(False)
    elif how == "narrow weight":
        block.mlp.up_proj.to(torch.bfloat16)
    return model


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("hook", "model.layers.0.mlp has hooks"),
        ("other linear", "model.layers.0.mlp.up_proj is a Sequential"),
        ("bias", "model.layers.0.mlp.up_proj has a bias"),
        ("frozen", "model.layers.0.mlp.up_proj.weight is frozen"),
        ("narrow weight", "model.layers.0.mlp.up_proj.weight is no contiguous float32 matrix of the CPU"),
    ],
)
def test_what_it_does_not_know_goes_the_plain_way(how, reason):
    model = spoilt(how)
    assert fused_obstacle(model, TOKENS, torch.bfloat16) == reason
    states = training_states(model, TOKENS, dtype=torch.bfloat16)
    assert torch.equal(states, plain_states(model, TOKENS, None, None, torch.bfloat16))


def test_without_a_compiler_training_goes_on(monkeypatch):
    model = model_of("grouped")
    expected = plain_states(model, TOKENS, None, None, torch.bfloat16)
    monkeypatch.setattr("haina.model.fused_kernels.fused_kernels_obstacle", lambda: "no C compiler found")
    assert (
        fused_obstacle(model, TOKENS, torch.bfloat16) == "there are no compiled kernels: no C compiler found"
    )
    assert torch.equal(training_states(model, TOKENS, dtype=torch.bfloat16), expected)


def test_a_second_way_back_through_the_gradient_is_refused():
    model = model_of("llama")
    states = training_states(model, TOKENS, dtype=torch.float32)
    weight = model.model.norm.weight
    if fused_obstacle(model, TOKENS, torch.float32):
        pytest.skip("needs compiled kernels")
    (gradient,) = torch.autograd.grad(states.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_starts_of_segments():
    segments = torch.tensor([[0, 0, 1, 1, 1, -1], [3, 4, 4, 5, 5, 5]])
    assert segment_starts(segments).tolist() == [[0, 0, 2, 2, 2, 5], [0, 1, 1, 3, 3, 3]]
