"""The shape of a model: sizes in, parameter and FLOP counts out.

Field names are those of Hugging Face's `LlamaConfig`, so a `config.json` and a recipe say the same thing in
the same words. Nothing here imports torch: the command line reads shapes at start-up.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from haina.runtime.errors import HainaError

# No model comes near these. Above them a damaged config.json would have torch count past 64 bits, or build blocks
# until the memory is full.
MOST_TOKENS, MOST_WIDE, MOST_HEADS, MOST_BLOCKS = 1 << 24, 1 << 20, 1 << 16, 4096


class ModelConfig(BaseModel):
    """Sizes of a Llama-architecture decoder (Touvron et al. 2023, arXiv 2302.13971).

    Raises:
        pydantic.ValidationError: a size is out of range or the sizes do not fit together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(default=8192, ge=8, le=MOST_TOKENS, description="token ids the model knows")
    hidden_size: int = Field(default=256, ge=2, le=MOST_WIDE, description="width of the residual stream")
    intermediate_size: int = Field(
        default=704, ge=1, le=MOST_WIDE, description="width inside the SwiGLU feed-forward block"
    )
    num_hidden_layers: int = Field(default=6, ge=1, le=MOST_BLOCKS, description="transformer blocks")
    num_attention_heads: int = Field(default=4, ge=1, le=MOST_HEADS, description="query heads")
    num_key_value_heads: int = Field(
        default=0, ge=0, validate_default=True, description="key and value heads; 0: as many as query heads"
    )
    head_dim: int = Field(
        default=0,
        ge=0,
        le=MOST_HEADS,
        description="width of a head, even; 0: hidden_size / num_attention_heads",
    )
    max_position_embeddings: int = Field(default=512, ge=1, le=1 << 31, description="window, in tokens")
    rms_norm_eps: float = Field(
        default=1e-6, gt=0, allow_inf_nan=False, description="added to the mean square in RMSNorm"
    )
    rope_theta: float = Field(
        default=10000.0, gt=0, allow_inf_nan=False, description="base of the rotary frequencies"
    )
    qk_norm: bool = Field(
        default=False, description="RMSNorm of every query and key head before rotation, as in Qwen3"
    )
    normalized_head: bool = Field(
        default=False, description="rows of the output head at length 1, Baichuan 2's NormHead"
    )
    tie_word_embeddings: bool = Field(
        default=True, description="one matrix for the input embedding and the output head"
    )
    bos_token_id: int | None = Field(default=0, ge=0, description="id that starts a document")
    eos_token_id: int | None = Field(default=1, ge=0, description="id that ends a document")
    pad_token_id: int | None = Field(default=2, ge=0, description="id that fills a batch; never learnt")

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        # A stored config is explicit: the 0 of "as usual" becomes the number it stands for.
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.hidden_size % self.num_attention_heads and not (self.qk_norm and self.head_dim):
            # transformers opens no LlamaForCausalLM without this, head_dim or not; a Qwen3ForCausalLM it does.
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary positions turn pairs")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token_id = getattr(self, name)
            if token_id is not None and token_id >= self.vocab_size:
                raise ValueError(f"{name} {token_id} is outside the vocabulary of {self.vocab_size}")
        if self.normalized_head and self.tie_word_embeddings:
            raise ValueError(
                "normalized_head with tie_word_embeddings: no stored layout has both; untie the head"
            )
        return self

    @property
    def block_parameters(self) -> int:
        """Weights of one block's matrices (norms not counted)."""
        query = self.hidden_size * self.num_attention_heads * self.head_dim
        key_value = self.hidden_size * self.num_key_value_heads * self.head_dim
        return 2 * query + 2 * key_value + 3 * self.hidden_size * self.intermediate_size

    @property
    def parameter_count(self) -> int:
        """All weights, a tied matrix counted once."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size
        if self.qk_norm:
            norms += 2 * self.num_hidden_layers * self.head_dim
        return embeddings + self.num_hidden_layers * self.block_parameters + norms

    def flops_per_token(self, sequence_length: int) -> int:
        """Model FLOPs of training one token: 6 a matmul weight, 12 * layers * width * sequence for attention.

        The convention of PaLM (arXiv 2204.02311, appendix B): full (not causal) attention, no recomputation,
        embedding look-up free, output head counted.
        """
        matmul = self.num_hidden_layers * self.block_parameters + self.vocab_size * self.hidden_size
        attention_width = self.num_attention_heads * self.head_dim
        return 6 * matmul + 12 * self.num_hidden_layers * attention_width * sequence_length


@cache
def _presets() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(
        files("haina.model").joinpath("presets.yaml").read_text("utf-8")
    )
    return loaded


def preset_names() -> list[str]:
    """Names that `preset` accepts."""
    return sorted(_presets())


def preset(name: str) -> ModelConfig:
    """A shape from `presets.yaml`.

    Raises:
        HainaError: no such preset.
    """
    if name not in _presets():
        raise HainaError(f"model preset {name!r} is unknown", f"choose one of: {', '.join(preset_names())}")
    return ModelConfig(**_presets()[name])
