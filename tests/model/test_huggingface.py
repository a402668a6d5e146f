"""Model folders: transformers and we open each other's; what is damaged or foreign is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import haina.model
from haina.model import ModelConfig, Transformer
from haina.runtime.errors import HainaError

SHAPES = {
    "tied": {"tie_word_embeddings": True},
    "untied, grouped": {"tie_word_embeddings": False, "num_key_value_heads": 2},
    "own head_dim": {"tie_word_embeddings": True, "head_dim": 20, "rope_theta": 5000.0, "rms_norm_eps": 1e-5},
}


def build(**changes) -> Transformer:
    values = {
        "vocab_size": 120,
        "hidden_size": 32,
        "intermediate_size": 72,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    model = Transformer(ModelConfig(**(values | changes)))
    model.initialize(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
            else:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(parameter)))
    return model.eval()


TOKENS = torch.randint(0, 120, (2, 50), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_the_same_logits_both_ways(shape, tmp_path):
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = build(**SHAPES[shape])
    haina.model.save(model, tmp_path / "ours", dtype=torch.float32, max_shard_bytes=40_000)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 1
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert isinstance(peer, LlamaForCausalLM)
    peer.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = peer(TOKENS).logits
        for ours in (model, haina.model.load(tmp_path / "ours"), haina.model.load(tmp_path / "theirs")):
            assert ours.config == model.config
            assert (ours(TOKENS) - expected).abs().max() < 1e-5
    assert expected.abs().max() > 1.0


def test_state_dict_interchanges_with_transformers():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = build(tie_word_embeddings=False, num_key_value_heads=1)
    shape = model.config.model_dump()
    peer = LlamaForCausalLM(LlamaConfig(**shape))
    peer.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(peer.state_dict(), strict=True)


def test_config_has_the_words_of_transformers_4(tmp_path):
    # Releases before 5 read rope_theta and torch_dtype at the top level and know nothing of rope_parameters.
    haina.model.save(build(rope_theta=777.0), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["rope_theta"] == 777.0
    assert values["torch_dtype"] == "bfloat16"
    assert values["rope_scaling"] is None
    assert values["architectures"] == ["LlamaForCausalLM"]


def test_save_rounds_to_bf16_once_and_repeats_to_the_byte(tmp_path):
    model = build()
    haina.model.save(model, tmp_path / "a")
    haina.model.save(haina.model.load(tmp_path / "a"), tmp_path / "b")
    stored = load_file(tmp_path / "a" / "model.safetensors")
    assert "lm_head.weight" not in stored
    for name, parameter in model.named_parameters():
        assert torch.equal(stored[name], parameter.to(torch.bfloat16))
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert haina.model.load(tmp_path / "a").lm_head.weight.dtype == torch.bfloat16
    assert haina.model.load(tmp_path / "a", dtype=torch.float32).lm_head.weight.dtype == torch.float32


def test_saving_again_leaves_nothing_of_the_old_weights(tmp_path):
    small, large = build(), build(num_hidden_layers=2)
    for model, limit in ((small, 20_000), (large, 10_000), (small, 1 << 30), (large, 20_000)):
        haina.model.save(model, tmp_path, max_shard_bytes=limit)
        assert haina.model.load(tmp_path).config == model.config
        stored = {name for path in tmp_path.glob("*.safetensors") for name in load_file(path)}
        assert stored == {name for name, _ in model.named_parameters()}


def test_baichuan_folder_with_fused_w_pack_opens(tmp_path):
    model = build(tie_word_embeddings=False)
    state = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for layer in range(3):
        prefix = f"model.layers.{layer}.self_attn."
        state[prefix + "W_pack.weight"] = torch.cat(
            [state.pop(f"{prefix}{part}_proj.weight") for part in "qkv"]
        )
        state[prefix + "rotary_emb.inv_freq"] = torch.ones(4)
    save_file(state, tmp_path / "model.safetensors")
    # The words of baichuan-inc/Baichuan-7B's config.json.
    values = {
        "architectures": ["BaiChuanForCausalLM"],
        "model_type": "baichuan",
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 72,
        "max_position_embeddings": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "vocab_size": 120,
        "torch_dtype": "float32",
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    opened = haina.model.load(tmp_path)
    assert opened.config.eos_token_id == 2
    with torch.no_grad():
        torch.testing.assert_close(opened(TOKENS), model(TOKENS), rtol=0, atol=0)


def _edit_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def _drop_tensor(folder, name):
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def _to_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _lose_shard(folder):
    haina.model.save(haina.model.load(folder), folder, max_shard_bytes=20_000)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


DAMAGE = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "not a model folder"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
    "other architecture": (
        lambda folder: _edit_config(folder, architectures=["GPT2LMHeadModel"]),
        "GPT2LMHeadModel is unknown",
    ),
    "Baichuan 2": (
        lambda folder: _edit_config(folder, architectures=["BaichuanForCausalLM"]),
        "BaichuanForCausalLM is unknown",
    ),
    "scaled positions": (
        lambda folder: _edit_config(folder, rope_scaling={"type": "linear", "factor": 2.0}),
        "rope_scaling",
    ),
    "scaled positions, new words": (
        lambda folder: _edit_config(folder, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        "yarn",
    ),
    "biases": (lambda folder: _edit_config(folder, attention_bias=True), "attention_bias"),
    "other activation": (lambda folder: _edit_config(folder, hidden_act="gelu"), "gelu"),
    "impossible size": (lambda folder: _edit_config(folder, num_key_value_heads=3), "num_key_value_heads 3"),
    "other size": (
        lambda folder: _edit_config(folder, intermediate_size=80),
        "has shape [32, 72], config.json says [32, 80]",
    ),
    "one layer more": (lambda folder: _edit_config(folder, num_hidden_layers=4), "layers.3"),
    "one layer less": (lambda folder: _edit_config(folder, num_hidden_layers=2), "does not belong"),
    "missing tensor": (
        lambda folder: _drop_tensor(folder, "model.norm.weight"),
        "model.norm.weight is missing",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
    "pickled weights": (_to_pickle, "pickled weights are not opened"),
    "half a file": (_cut, "damaged safetensors"),
    "garbage": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        "damaged safetensors",
    ),
    "missing shard": (_lose_shard, "named in model.safetensors.index.json but missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folder_is_refused_by_name(kind, tmp_path):
    damage, message = DAMAGE[kind]
    haina.model.save(build(), tmp_path)
    haina.model.load(tmp_path)
    damage(tmp_path)
    with pytest.raises(HainaError) as caught:
        haina.model.load(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(HainaError, match="not a model folder"):
        haina.model.load(tmp_path / "nowhere")
