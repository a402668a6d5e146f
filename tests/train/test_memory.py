"""The closed form of `haina.train.memory` against what a step allocates, tensor by tensor."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from haina.model import ModelConfig, Transformer, preset
from haina.model.training import plain_states, training_states
from haina.train import loss
from haina.train.config import TrainConfig
from haina.train.loss import linear_cross_entropy
from haina.train.memory import GIB, chunk_tokens, estimate, estimate_for, fitting_settings
from haina.train.optimizer import build_optimizer
from haina.train.recompute import recompute_blocks

TOLERANCE = 0.05


class Allocations(TorchDispatchMode):
    """Bytes of all tensors alive, and the most there were: every storage counts once, from its first operation on."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.note(result)
        return result

    def note(self, values: Any) -> None:
        for value in tree_iter(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self.alive:
                    self.alive[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._dropped, key)
        self.peak = max(self.peak, self.now)

    def _dropped(self, key: int) -> None:
        self.now -= self.alive.pop(key)


def shape(**changes: Any) -> ModelConfig:
    sizes = {
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return ModelConfig(**(sizes | changes))


def measured_step(
    config: ModelConfig,
    rows: int,
    length: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    optimizer: str = "adamw",
    path: str = "fused",
    recompute: str = "none",
    document_mask: bool = False,
    accumulation: int = 1,
    loss_chunk: int = 0,
    split_weights: bool = False,
) -> int:
    """Most bytes alive in the second step of a model: by then all state is there."""
    model = Transformer(config)
    recompute_blocks(model, recompute)  # type: ignore[arg-type]
    parts = build_optimizer(model, TrainConfig(optimizer=optimizer, split_weights=split_weights, steps=100))
    tokens = torch.randint(0, config.vocab_size, (rows, length))
    places = torch.arange(length).expand(rows, length).contiguous()
    positions, segments = (places, places // 37) if document_mask else (None, None)
    counted = Allocations()
    counted.note(list(model.parameters()))
    counted.note([list(values.values()) for values in parts.state.values()])
    with counted:
        for _ in range(2):
            for _ in range(accumulation):
                if path == "fused":
                    hidden = training_states(model, tokens, positions, segments, dtype=dtype)
                else:
                    hidden = plain_states(model, tokens, positions, segments, dtype)
                objective, _ = linear_cross_entropy(
                    hidden.flatten(0, 1),
                    model.head_weight(),
                    tokens.reshape(-1),
                    chunk=loss_chunk,
                    dtype=dtype,
                    total=rows * length,
                )
                del hidden
                objective.backward()
                del objective
            parts.step()
            parts.zero_grad()
    return counted.peak


CASES: dict[str, dict[str, Any]] = {
    "small": {},
    "qk-norm": {"shape": {"qk_norm": True}},
    "untied": {"shape": {"tie_word_embeddings": False, "vocab_size": 4096}},
    "large vocabulary": {"shape": {"vocab_size": 32000}, "rows": 2},
    "many layers": {"shape": {"num_hidden_layers": 12}},
    "one head for all": {"shape": {"num_key_value_heads": 1}},
    "wide feed-forward": {"shape": {"intermediate_size": 1024}},
    "parts of the loss": {"loss_chunk": 128},
    "accumulation": {"accumulation": 2},
    "muon": {"optimizer": "muon"},
    "fp32": {"dtype": torch.float32},
    "documents": {"document_mask": True},
    "few tokens": {"rows": 1, "length": 64},
}
PLAIN = ("small", "qk-norm", "large vocabulary", "accumulation", "fp32", "documents")
RECOMPUTED: dict[str, dict[str, Any]] = {
    "full": {"recompute": "full"},
    "full, fp32": {"recompute": "full", "dtype": torch.float32},
    "full, documents": {"recompute": "full", "document_mask": True},
    "selective": {"recompute": "selective"},
    "selective, qk-norm": {"recompute": "selective", "shape": {"qk_norm": True}},
    "selective, documents": {"recompute": "selective", "document_mask": True},
}


def check(config: ModelConfig, rows: int, length: int, **options: Any) -> None:
    """Measure and estimate; they must agree."""
    measured = measured_step(config, rows, length, **options)
    found = estimate(config, micro_batch_size=rows, sequence_length=length, device="cpu", **options)
    off = found.total / measured - 1
    assert abs(off) <= TOLERANCE, f"{found.report()}\n{measured / GIB:.3f} GiB measured, {100 * off:+.1f} %"


@pytest.mark.parametrize(
    ("case", "path"), [(case, "fused") for case in CASES] + [(case, "plain") for case in PLAIN]
)
def test_a_step_needs_what_was_estimated(case: str, path: str) -> None:
    options = dict(CASES[case])
    config = shape(**options.pop("shape", {}))
    check(config, options.pop("rows", 4), options.pop("length", 256), path=path, **options)


def test_split_weights_need_what_was_estimated() -> None:
    check(shape(num_hidden_layers=12), 2, 128, path="plain", split_weights=True)


@pytest.mark.parametrize("case", RECOMPUTED)
def test_recomputation_saves_what_was_estimated(case: str) -> None:
    options = dict(RECOMPUTED[case])
    sizes = {"num_hidden_layers": 10, "vocab_size": 512} | options.pop("shape", {})
    check(shape(**sizes), 4, 256, path="plain", **options)


def test_a_loss_without_kernels_needs_what_was_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form of the loss that a GPU runs, on the CPU: without its kernels."""
    monkeypatch.setattr("haina.train.loss.kernels.fused_kernels_available", lambda: False)
    config = shape(vocab_size=8000, num_hidden_layers=2)
    for chunk in (64, 4096):
        measured = measured_step(config, 4, 256, path="plain", loss_chunk=chunk)
        found = estimate(config, micro_batch_size=4, sequence_length=256, device="cuda", loss_chunk=chunk)
        own = {"library workspace", "fragmentation"}
        total = sum(size for name, size in found.components.items() if name not in own)
        # The CPU's attention puts heads side by side in a copy of its output.
        total += 2 * config.num_hidden_layers * 4 * 256 * config.num_attention_heads * config.head_dim
        assert found.moment == "loss"
        assert abs(total / measured - 1) <= TOLERANCE


@pytest.mark.parametrize("qk_norm", [False, True])
def test_compiled_blocks_keep_what_was_estimated(qk_norm: bool) -> None:
    """What the compiler's partitioner keeps does not depend on the backend behind it."""
    config = shape(qk_norm=qk_norm, num_hidden_layers=3, num_key_value_heads=1)
    model = Transformer(config)
    for block in model.model.layers:
        block.compile(backend="aot_eager_decomp_partition")
    tokens = torch.zeros(3, 160, dtype=torch.int64)
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    plain_states(model, tokens, None, None, torch.bfloat16).sum().backward()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = plain_states(model, tokens, None, None, torch.bfloat16)
    measured = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    found = estimate(
        config, micro_batch_size=3, sequence_length=160, device="cpu", path="compiled", loss_chunk=480
    ).components
    expected = found["activations"] + found["weights in low precision"]
    assert abs(expected / (measured + hidden.untyped_storage().nbytes()) - 1) <= TOLERANCE


@pytest.mark.parametrize("name", ["ours-1b", pytest.param("baichuan-7b", marks=pytest.mark.slow)])
def test_activations_of_large_models(name: str) -> None:
    """Against PyTorch's own accounting, of a forward pass in which no tensor has values."""
    config, rows, length = preset(name), 2, 1024
    with FakeTensorMode():
        model = Transformer(config)
        tokens = torch.zeros(rows, length, dtype=torch.int64)
        counted = MemTracker()
        counted.track_external(model)
        with counted:
            hidden = plain_states(model, tokens, None, None, torch.bfloat16)
            held = counted.get_tracker_snapshot("current")[tokens.device]["Total"]
    assert hidden.shape == (rows, length, config.hidden_size)
    found = estimate(
        config, micro_batch_size=rows, sequence_length=length, device="cpu", path="plain"
    ).components
    expected = sum(found[part] for part in ("parameters", "activations", "weights in low precision"))
    assert abs(expected / held - 1) <= 0.005


def test_seven_billion_parameters_on_one_device() -> None:
    """The plan for a GPU of 140 GiB: split weights fit, the ordinary layout does not."""
    config = preset("baichuan-7b")
    options: dict[str, Any] = {
        "micro_batch_size": 1, "sequence_length": 4096, "compiled": True, "accumulation": 8, "loss_chunk": 2048,
    }  # fmt: skip
    split, ordinary = estimate(config, split_weights=True, **options), estimate(config, **options)
    assert 118 * GIB < split.total < 132 * GIB
    assert ordinary.total - split.total > 12 * GIB
    state = (
        split.components["parameters"] + split.components["optimizer state"] + split.components["gradients"]
    )
    assert state == 16 * config.parameter_count


def section(**changes: Any) -> TrainConfig:
    values = {
        "sequence_length": 1024, "micro_batch_size": 32, "gradient_accumulation": 2, "precision": "bf16",
    }  # fmt: skip
    return TrainConfig(**(values | changes))


def test_settings_that_fit_do_fit_and_keep_the_batch() -> None:
    config, model = section(), preset("ours-100m")
    for free in (24 * GIB, 12 * GIB, 6 * GIB, 3 * GIB):
        found = fitting_settings(config, model, free)
        assert len(found) == 3
        assert len(set(found)) == 3
        for line in found:
            words, _, size = line.partition(": ")
            changes = dict(word.removeprefix("train.").split("=") for word in words.split())
            changed = TrainConfig(**(config.model_dump(exclude_defaults=True) | changes))
            needed = estimate_for(changed, model, "cuda", "bfloat16").total
            assert needed <= free
            assert size == f"{needed / GIB:.1f} GiB"
            assert changed.rows_per_step == config.rows_per_step


def test_the_mildest_smaller_batch_is_named() -> None:
    config, model = section(), preset("ours-100m")
    needed = {
        size: estimate_for(
            section(micro_batch_size=size, gradient_accumulation=64 // size), model, "cuda", "bfloat16"
        ).total
        for size in (16, 8, 4)
    }
    assert needed[16] > needed[8] > needed[4]
    first = fitting_settings(config, model, needed[8])[0]
    assert first.startswith("train.micro_batch_size=8 train.gradient_accumulation=8: ")


def test_where_nothing_fits_nothing_is_promised() -> None:
    assert fitting_settings(section(), preset("baichuan-7b"), GIB) == []


def test_a_report_adds_up() -> None:
    found = estimate(shape(), micro_batch_size=2, sequence_length=128)
    lines = found.report().splitlines()
    sizes = [float(line.split()[0]) for line in lines]
    assert sum(sizes[:-1]) == pytest.approx(sizes[-1], abs=0.001 * len(sizes))
    assert "1,000,576 parameters, 2 x 128 tokens, adamw, bf16, recompute none, plain path" in lines[-1]


def test_the_loss_takes_as_many_tokens_at_once_as_it_says() -> None:
    for vocabulary in (300, 8192, 64000, 10_000_000):
        for dtype in (torch.bfloat16, torch.float32):
            config = shape(vocab_size=vocabulary)
            assert chunk_tokens(config, dtype.itemsize) == loss.chunk_tokens(vocabulary, dtype)


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(ValueError, match="float8"):
        estimate(shape(), micro_batch_size=1, sequence_length=8, dtype="float8")
