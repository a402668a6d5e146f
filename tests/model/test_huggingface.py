"""Model folders: transformers and we open each other's, of every family; round trips lose nothing."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import haina.model
from haina.model import ModelConfig, Transformer, huggingface, preset, preset_names
from haina.model.huggingface import config_json
from haina.runtime.errors import HainaError, from_os_error

from .tiny import TOKENS, build, write_baichuan

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {"tie_word_embeddings": True},
    "untied, grouped": {"tie_word_embeddings": False, "num_key_value_heads": 2},
    "own head_dim": {"tie_word_embeddings": True, "head_dim": 20, "rope_theta": 5000.0, "rms_norm_eps": 1e-5},
    "QK-norm, tied, grouped": {"qk_norm": True, "num_key_value_heads": 2},
    "QK-norm, untied, own head_dim": {"qk_norm": True, "tie_word_embeddings": False, "head_dim": 12},
    "Llama 3's theta": {"tie_word_embeddings": False, "num_key_value_heads": 1, "rope_theta": 500000.0},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_the_same_logits_both_ways(shape: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = build(**SHAPES[shape])
    haina.model.save(model, tmp_path / "ours", dtype=torch.float32, max_shard_bytes=40_000)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 1
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert type(peer).__name__ == ("Qwen3ForCausalLM" if model.config.qk_norm else "LlamaForCausalLM")
    peer.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = peer(TOKENS).logits
        for ours in (model, haina.model.load(tmp_path / "ours"), haina.model.load(tmp_path / "theirs")):
            assert ours.config == model.config
            assert (ours(TOKENS) - expected).abs().max() < 1e-5
    assert expected.abs().max() > 1.0


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_state_dict_interchanges_with_transformers(family: str) -> None:
    import transformers

    model = build(tie_word_embeddings=False, num_key_value_heads=1, qk_norm=family == "Qwen3")
    shape = model.config.model_dump(exclude={"qk_norm", "normalized_head"})
    config = getattr(transformers, f"{family}Config")(**shape)
    peer = getattr(transformers, f"{family}ForCausalLM")(config)
    peer.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(peer.state_dict(), strict=True)


def _half(number: int) -> int:
    return 2 * number


ANY_SHAPE = st.builds(
    lambda kv_heads, groups, tied, normalized, qk_norm, width, **sizes: ModelConfig(
        num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * groups,
        qk_norm=qk_norm,
        hidden_size=width + 1 if qk_norm else width * kv_heads * groups,
        tie_word_embeddings=tied and not normalized,
        normalized_head=normalized,
        max_position_embeddings=64,
        **sizes,
    ),
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    tied=st.booleans(),
    normalized=st.booleans(),
    qk_norm=st.booleans(),
    head_dim=st.integers(1, 8).map(_half),
    width=st.integers(2, 20),
    intermediate_size=st.integers(1, 50),
    num_hidden_layers=st.integers(1, 3),
    vocab_size=st.integers(8, 90),
    rope_theta=st.sampled_from([100.0, 1e4, 5e5]),
    rms_norm_eps=st.sampled_from([1e-6, 1e-5]),
    pad_token_id=st.sampled_from([None, 0, 7]),
)


@settings(max_examples=25)
@given(
    config=ANY_SHAPE,
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    shard_bytes=st.sampled_from([500, 4000, 1 << 30]),
)
def test_save_and_load_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, config: ModelConfig, dtype: torch.dtype, shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    model = build(**config.model_dump())
    haina.model.save(model, folder, dtype=dtype, max_shard_bytes=shard_bytes)
    opened = haina.model.load(folder)
    assert opened.config == config.model_copy(update={"normalized_head": False})
    model.fold_head()
    expected = dict(model.named_parameters())
    assert [name for name, _ in opened.named_parameters()] == list(expected)
    for name, parameter in opened.named_parameters():
        assert parameter.dtype == dtype
        assert torch.equal(parameter, expected[name].to(dtype))
    again = folder / "again"
    haina.model.save(opened, again, dtype=dtype, max_shard_bytes=shard_bytes)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        assert path.read_bytes() == (again / path.name).read_bytes()


@settings(max_examples=12)
@given(config=ANY_SHAPE)
def test_transformers_opens_any_shape(tmp_path_factory: pytest.TempPathFactory, config: ModelConfig) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("folder")
    model = build(**config.model_dump())
    haina.model.save(model, folder, dtype=torch.float32)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, config.vocab_size, (2, 21), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (model(tokens) - peer(tokens).logits).abs().max() < 1e-5


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_shape_of_transformers(name: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = preset(name)
    values = config_json(shape, torch.bfloat16)
    with torch.device("meta"):
        peer = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
        ours = Transformer(shape)
    assert type(peer).__name__ == ("Qwen3ForCausalLM" if name.startswith("ours") else "LlamaForCausalLM")
    expected = {key: tuple(parameter.shape) for key, parameter in ours.named_parameters()}
    assert {key: tuple(parameter.shape) for key, parameter in peer.named_parameters()} == expected
    assert sum(parameter.numel() for parameter in peer.parameters()) == shape.parameter_count


@pytest.mark.parametrize("files", [1, 3])
def test_baichuan_folder_with_fused_w_pack_opens(files: int, tmp_path: Path) -> None:
    model = build(tie_word_embeddings=False)
    opened = haina.model.load(write_baichuan(model, tmp_path, "BaiChuanForCausalLM", files))
    assert opened.config.eos_token_id == 2
    with torch.no_grad():
        torch.testing.assert_close(opened(TOKENS), model(TOKENS), rtol=0, atol=0)


def test_baichuan_2_folder_opens_with_its_normalised_head_and_is_saved_as_a_plain_llama(
    tmp_path: Path,
) -> None:
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = build(tie_word_embeddings=False, normalized_head=True)
    with torch.no_grad():
        model.lm_head.weight.mul_(torch.rand(120, 1) * 3 + 0.1)
    opened = haina.model.load(write_baichuan(model, tmp_path / "theirs", "BaichuanForCausalLM"))
    assert opened.config.normalized_head
    assert torch.equal(opened.lm_head.weight, model.lm_head.weight)
    haina.model.save(opened, tmp_path / "ours", dtype=torch.float32)
    stored = load_file(tmp_path / "ours/model.safetensors")["lm_head.weight"]
    torch.testing.assert_close(stored.norm(dim=-1), torch.ones(120))
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert isinstance(peer, LlamaForCausalLM)
    plain = haina.model.load(tmp_path / "ours")
    assert not plain.config.normalized_head
    hidden = model.hidden_states(TOKENS)
    weight = model.lm_head.weight
    by_hand = hidden.double() @ (weight.double() / weight.double().pow(2).sum(-1, keepdim=True).sqrt()).t()
    with torch.no_grad():
        for logits in (opened(TOKENS), plain(TOKENS), peer(TOKENS).logits):
            assert (logits - by_hand).abs().max() < 1e-5


def test_config_has_the_words_of_transformers_4(tmp_path: Path) -> None:
    # Releases before 5 read rope_theta and torch_dtype at the top level and know nothing of rope_parameters.
    haina.model.save(build(rope_theta=777.0), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["rope_theta"] == 777.0
    assert values["torch_dtype"] == "bfloat16"
    assert values["rope_scaling"] is None
    assert values["architectures"] == ["LlamaForCausalLM"]
    assert not {"qk_norm", "normalized_head"} & values.keys()


def test_save_rounds_to_bf16_once_and_repeats_to_the_byte(tmp_path: Path) -> None:
    model = build()
    haina.model.save(model, tmp_path / "a")
    haina.model.save(haina.model.load(tmp_path / "a"), tmp_path / "b")
    stored = load_file(tmp_path / "a" / "model.safetensors")
    assert "lm_head.weight" not in stored
    for name, parameter in model.named_parameters():
        assert torch.equal(stored[name], parameter.to(torch.bfloat16))
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert haina.model.load(tmp_path / "a").lm_head.weight.dtype == torch.bfloat16
    opened = haina.model.load(tmp_path / "a", dtype=torch.float32)
    assert opened.lm_head.weight.dtype == torch.float32
    assert opened.lm_head.weight is opened.model.embed_tokens.weight
    assert all(parameter.requires_grad for parameter in opened.parameters())
    assert not opened.training


def test_a_folder_may_mix_precisions(tmp_path: Path) -> None:
    haina.model.save(build(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, tmp_path / "model.safetensors")
    opened = haina.model.load(tmp_path)
    assert opened.model.norm.weight.dtype == torch.float32
    assert opened.lm_head.weight.dtype == torch.bfloat16


def test_saving_again_leaves_nothing_of_the_old_weights(tmp_path: Path) -> None:
    small, large = build(), build(num_hidden_layers=2)
    for model, limit in ((small, 20_000), (large, 10_000), (small, 1 << 30), (large, 20_000)):
        haina.model.save(model, tmp_path, max_shard_bytes=limit)
        assert haina.model.load(tmp_path).config == model.config
        stored = {name for path in tmp_path.glob("*.safetensors") for name in load_file(path)}
        assert stored == {name for name, _ in model.named_parameters()}
        assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def old_model(tmp_path: Path) -> Iterator[Path]:
    """A folder with a model, which has to be the same after the test, to the byte."""
    haina.model.save(build(), tmp_path, max_shard_bytes=20_000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    yield tmp_path
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("room", [0, 100, 5_000, 25_000])
def test_weights_that_the_system_does_not_take_leave_the_old_model(old_model: Path, room: int) -> None:
    """Files above `room` bytes are refused by the kernel, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(HainaError, match="File too large") as caught:
            haina.model.save(build(seed=1), old_model, max_shard_bytes=30_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(old_model) in caught.value.message


@pytest.mark.parametrize("last", ["model.safetensors.index.json", "config.json"])
def test_a_disk_that_is_full_at_the_last_file_leaves_the_old_model(
    old_model: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = huggingface.write_json

    def full(path: Path, value: Any) -> None:
        if path.name == last:
            raise from_os_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)
        real(path, value)

    monkeypatch.setattr(huggingface, "write_json", full)
    with pytest.raises(HainaError, match="no space left"):
        haina.model.save(build(seed=1), old_model, max_shard_bytes=30_000)


@pytest.mark.parametrize("moves", range(5))
def test_a_kill_during_the_exchange_leaves_no_half_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """What is there opens as the new model or not at all, and saving again mends it."""
    haina.model.save(build(), tmp_path, max_shard_bytes=20_000)
    made, real = 0, Path.replace

    def replace(source: Path, target: Path) -> Path:
        nonlocal made
        if target.parent == tmp_path:
            if made == moves:
                raise KeyboardInterrupt
            made += 1
        return real(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        haina.model.save(build(seed=1), tmp_path, max_shard_bytes=30_000)
    monkeypatch.undo()
    with pytest.raises(HainaError, match="not a model folder"):
        haina.model.load(tmp_path)
    haina.model.save(build(seed=1), tmp_path, dtype=torch.float32)
    assert torch.equal(haina.model.load(tmp_path).lm_head.weight, build(seed=1).lm_head.weight)


def test_a_quantised_model_is_not_saved_without_its_matrices(tmp_path: Path) -> None:
    model = build()
    model.set_submodule("model.layers.1.mlp.up_proj", torch.nn.Identity())
    with pytest.raises(HainaError, match=r"layers\.1\.mlp\.up_proj\.weight to save"):
        haina.model.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
