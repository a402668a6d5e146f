"""The `train` section of a recipe: what is trained, on how much, how fast, and how often it is kept.

Imports no torch, so that the command line can check a recipe at start-up.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from haina.model.config import ModelConfig, preset
from haina.runtime.errors import HainaError
from haina.shards.loader_settings import LoaderSection
from haina.train.guards_config import GuardSection
from haina.train.monitor_config import MonitorSection

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class ModelSection(BaseModel):
    """A preset of `haina.model`, with whatever is given here in place of the preset's value.

    The vocabulary and the special ids come from the tokenizer, the window from `sequence_length`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    preset: str = Field(default="quickstart", description="a name in haina/model/presets.yaml")
    hidden_size: int | None = Field(
        default=None, ge=2, description="width of the residual stream; null: the preset's"
    )
    intermediate_size: int | None = Field(
        default=None, ge=1, description="feed-forward width; null: the preset's"
    )
    num_hidden_layers: int | None = Field(default=None, ge=1, description="blocks; null: the preset's")
    num_attention_heads: int | None = Field(default=None, ge=1, description="query heads; null: the preset's")
    num_key_value_heads: int | None = Field(
        default=None, ge=0, description="0: as many as query heads; null: the preset's"
    )
    head_dim: int | None = Field(default=None, ge=0, description="0: hidden_size / heads; null: the preset's")
    rope_theta: float | None = Field(default=None, gt=0, description="rotary base; null: the preset's")
    rms_norm_eps: float | None = Field(default=None, gt=0, description="null: the preset's")
    qk_norm: bool | None = Field(default=None, description="RMSNorm of queries and keys; null: the preset's")
    tie_word_embeddings: bool | None = Field(
        default=None, description="one matrix in and out; null: the preset's"
    )

    @model_validator(mode="after")
    def _makes_a_model(self) -> ModelSection:
        try:
            self.resolve(vocab_size=8192, window=16, bos_id=None, eos_id=None, pad_id=None)
        except HainaError as error:
            raise ValueError(str(error)) from error
        return self

    def resolve(
        self, vocab_size: int, window: int, bos_id: int | None, eos_id: int | None, pad_id: int | None
    ) -> ModelConfig:
        """The full shape, once the tokenizer is known.

        Raises:
            HainaError: no such preset.
            pydantic.ValidationError: the sizes do not fit together.
        """
        values: dict[str, Any] = preset(self.preset).model_dump()
        given = self.model_dump(exclude={"preset"}, exclude_none=True)
        if "hidden_size" in given or "num_attention_heads" in given:
            # The preset's head sizes belong to the preset's width.
            values |= {"head_dim": 0, "num_key_value_heads": 0}
        values |= given
        values |= {
            "vocab_size": vocab_size,
            "max_position_embeddings": window,
            "bos_token_id": bos_id,
            "eos_token_id": eos_id,
            "pad_token_id": pad_id,
        }
        return ModelConfig(**values)


class TrainConfig(BaseModel):
    """Pretraining on packed token shards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    model: ModelSection = Field(default=ModelSection(), description="shape of the model")
    sequence_length: int = Field(default=256, ge=2, description="tokens a window; becomes the model's window")
    loader: LoaderSection = Field(
        default=LoaderSection(),
        description="how documents become rows, and in which proportions they are read",
    )
    micro_batch_size: int = Field(default=8, ge=1, description="windows computed at once")
    gradient_accumulation: int = Field(default=1, ge=1, description="micro-batches an optimizer step")
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    optimizer: Literal["adamw", "muon"] = Field(
        default="muon",
        description="adamw for everything, or muon for the matrices inside the blocks and adamw for the rest",
    )
    learning_rate: float = Field(
        default=0.02,
        gt=0,
        description="AdamW's peak; alone (optimizer adamw) it wants about a tenth of the default",
    )
    matrix_learning_rate: float = Field(
        default=0.02,
        gt=0,
        description="Muon's peak, relative to an orthogonal matrix; follows the same schedule",
    )
    matrix_momentum: Fraction = Field(default=0.95, description="Muon's decay of the mean gradient")
    row_decay: Fraction = Field(
        default=0.95,
        description="Muon's decay of the mean square of each row of an update, which evens rows out; 0: no such thing",
    )
    initialisation: Literal["gpt2", "fan_in"] = Field(
        default="fan_in",
        description="gpt2: N(0, 0.02), less where blocks write; fan_in: by the width a matrix reads, blocks begin as "
        "the identity",
    )
    min_learning_rate_ratio: float = Field(
        default=0.01, ge=0, le=1, description="rate of the last step, of the peak"
    )
    warmup_steps: int = Field(default=50, ge=0, description="steps of linear rise from 0")
    schedule: Literal["cosine", "wsd"] = Field(
        default="wsd", description="cosine decay, or warm-up - stable - decay"
    )
    decay_share: float = Field(
        0.7, gt=0, le=1, description="share of the steps that decay; schedule wsd only"
    )
    decay_shape: Literal["linear", "sqrt"] = Field(
        default="linear",
        description="of the decay: a straight line, or 1 - sqrt, which falls fast at first; schedule wsd only",
    )
    betas: tuple[Fraction, Fraction] = Field(
        default=(0.9, 0.95), description="AdamW's two decay rates, in [0, 1)"
    )
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.1, ge=0, description="on matrices; norms are never decayed")
    decay_embeddings: bool = Field(
        default=False, description="weight decay on embeddings and output head too"
    )
    z_loss: float = Field(
        default=1e-5,
        ge=0,
        description="weight of the mean square of log Z (of the softmax over the vocabulary) in what is minimised",
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest global L2 norm of the gradient")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="bf16: matrix products under autocast, weights in fp32; auto: where the hardware has it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA if there is one")
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads; part of what makes a run repeatable; 0: one a physical core",
    )
    compile: bool = Field(default=False, description="torch.compile the blocks; on CPU needs a C++ compiler")
    recompute: Literal["none", "selective", "full"] = Field(
        default="none",
        description="what blocks compute again in the backward pass, to save memory: nothing; all but matrix products "
        "and attention; everything",
    )
    split_weights: bool = Field(
        default=False,
        description="AdamW keeps the blocks' float32 matrices as the bf16 numbers that products read and the sixteen "
        "bits that are missing, 4 bytes a weight instead of 6; the same numbers",
    )
    loss_chunk_tokens: int = Field(
        default=0,
        ge=0,
        description="tokens whose logits exist at once, bounds the memory of the loss; 0: as many as 16 MiB hold, at "
        "least 512",
    )
    log_every: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    evaluate_every: int = Field(
        200, ge=1, description="steps between held-out evaluations; always after the last"
    )
    validation_tokens: int = Field(
        default=32768, ge=1, description="held-out tokens of each language that an evaluation reads, at most"
    )
    checkpoint_every: int = Field(
        default=200, ge=1, description="steps between checkpoints; always after the last"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints kept")
    milestone_every: int = Field(
        default=0, ge=0, description="steps between checkpoints that are kept for good; 0: none"
    )
    guards: GuardSection = Field(default=GuardSection(), description="what is done about bad steps")
    monitor: MonitorSection = Field(default=MonitorSection(), description="what is watched besides")

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainConfig:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below steps {self.steps}")
        return self

    @model_validator(mode="after")
    def _split_weights_fit(self) -> TrainConfig:
        if self.split_weights and (self.optimizer != "adamw" or self.precision == "fp32"):
            raise ValueError("split_weights: is for optimizer adamw and precision bf16")
        return self

    @model_validator(mode="after")
    def _loader_fits(self) -> TrainConfig:
        for _, window in self.loader.context_schedule:
            if window > self.sequence_length:
                raise ValueError(
                    f"loader.context_schedule: window {window} is above sequence_length {self.sequence_length}"
                )
        return self

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation

    @property
    def tokens_per_step(self) -> int:
        """Places in the rows of one optimizer step; padding, where there is any, counts."""
        return self.sequence_length * self.rows_per_step
