"""A model and a number of tokens in; every other setting of the training run out, each with the rule it follows.

This is the one dial: how many tokens. The rules are those of `haina.train.rules`; what the user has set himself is
taken as it is, and the rules that come after it start from there. The same model, tokens and machine give the same
settings, so a run that was stopped goes on under the same command. Imports no torch, except to ask for a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from haina.model.config import ModelConfig
from haina.runtime.errors import HainaError
from haina.train import rules
from haina.train.config import TrainConfig

# More than anybody has is a slip of the keyboard.
MOST_TOKENS = 10**15
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# Of the memory of the device, what a step may take: the rest is for the allocator, the loader and the system.
MEMORY_SHARE = 0.6
# Tokens of a micro-batch above which a device gets no faster.
ENOUGH_TOKENS = {"cpu": 4096, "cuda": 65536}
EVALUATIONS, CHECKPOINTS, LINES = 20, 40, 500
EVALUATED_TOKENS = 131_072
# Reading text up to four times is nearly as good as new text (Muennighoff et al. 2023).
FREE_EPOCHS = 4


@dataclass(frozen=True)
class Choice:
    """One line of what the dial says.

    Attributes:
        name: a field of TrainConfig, or a word in parentheses for what follows from several.
        value: of it.
        rule: the formula or reason, in one line.
        source: where that comes from.
    """

    name: str
    value: Any
    rule: str
    source: str

    @property
    def is_field(self) -> bool:
        return not self.name.startswith("(")


@dataclass(frozen=True)
class Place:
    """Where a run takes place: "cpu" or "cuda", and the bytes of memory that the device has in all."""

    device: str
    memory: int


def this_place(wanted: str = "auto") -> Place:
    """The device that a run with `train.device: wanted` uses here."""
    import psutil
    import torch

    from haina.runtime.devices import memory_limit

    if wanted != "cpu" and torch.cuda.is_available():
        return Place("cuda", int(torch.cuda.get_device_properties(0).total_memory))
    total = int(psutil.virtual_memory().total)
    return Place("cpu", min(total, memory_limit() or total))


def parse_tokens(text: str) -> int:
    """`600M`, `1.2B`, `1_200_000` or `1200000` as a number.

    Raises:
        HainaError: it is none, or not positive.
    """
    found = re.fullmatch(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([KMBT]?)", text.strip().upper())
    count = float(re.sub("[_,]", "", found[1])) * UNITS[found[2]] if found else 0.0
    if not 1 <= round(min(count, MOST_TOKENS + 1)) <= MOST_TOKENS:
        raise HainaError(f"--tokens {text}: is no number of tokens", "write it like 600M, 1.2B or 1200000")
    return round(count)


def derive(
    shape: ModelConfig, tokens: int, place: Place, given: Mapping[str, Any], window: int | None = None
) -> list[Choice]:
    """All settings of a run.

    Args:
        shape: of the model, with the vocabulary it will have.
        tokens: to train on.
        place: where.
        given: fields of TrainConfig that are set already, by name.
        window: of the model, where `shape` does not say the one it is made for.

    Returns:
        a choice for each field that the recipe rules, in the order in which they follow from one another.

    Raises:
        HainaError: there are fewer tokens than one step takes.
    """
    made = _Derivation(shape, tokens, place, given)
    made.sizes(window or shape.max_position_embeddings)
    made.optimizer()
    made.schedule()
    made.upkeep()
    return made.choices


class _Derivation:
    """The choices so far. Every later one may read the earlier ones through `value`."""

    def __init__(self, shape: ModelConfig, tokens: int, place: Place, given: Mapping[str, Any]) -> None:
        self.shape, self.tokens, self.place, self.given = shape, tokens, place, given
        self.choices: list[Choice] = []
        self.value: dict[str, Any] = {}

    def choose(self, name: str, value: Any, rule: str, source: str) -> Any:
        if name in self.given:
            value, rule, source = self.given[name], "as set", "--set"
        self.choices.append(Choice(name, value, rule, source))
        self.value[name] = value
        return value

    def note(self, name: str, value: Any, rule: str, source: str = "") -> None:
        self.choices.append(Choice(f"({name})", value, rule, source))

    def sizes(self, window: int) -> None:
        shape, tokens = self.shape, self.tokens
        per_parameter = tokens / shape.parameter_count
        self.note("parameters", shape.parameter_count, f"{per_parameter:.3g} tokens a parameter")
        row = self.choose(
            "sequence_length",
            rules.sequence_length(shape.hidden_size, window),
            f"largest power of two up to 2 h, h = {shape.hidden_size}; at least {rules.SHORTEST_WINDOW}, at most the "
            f"preset's window of {window:,}",
            "FLOPs of attention: S / (6 h) of the matrices'",
        )
        if tokens < row:
            raise HainaError(
                f"--tokens {tokens:,}: is less than one step, which takes {row:,} at least",
                "train on more tokens, or shorten train.sequence_length",
            )
        micro, accumulation = self._rows(row)
        batch = row * micro * accumulation
        self.note("tokens_per_step", batch, "sequence_length * micro_batch_size * gradient_accumulation")
        if tokens < batch:
            raise HainaError(
                f"--tokens {tokens:,}: is less than one step of {batch:,} tokens",
                "train on more tokens, or lower micro_batch_size or gradient_accumulation",
            )
        steps = self.choose(
            "steps", round(tokens / batch), f"{tokens:,} tokens / {batch:,} a step", "arithmetic"
        )
        self.tokens_per_step = batch
        # What is trained on in fact, should the steps be given.
        self.tokens = steps * batch

    def _rows(self, row: int) -> tuple[int, int]:
        """micro_batch_size and gradient_accumulation for rows of `row` tokens."""
        wanted = rules.step_tokens(self.tokens)
        rows = min(rules.power_of_two(wanted / row), max(1, self.tokens // row))
        most = max(1, ENOUGH_TOKENS[self.place.device] // row)
        fitting, need = self._fitting(row, min(rows, 1 << (most.bit_length() - 1)))
        micro = self.choose(
            "micro_batch_size",
            fitting,
            f"at most {ENOUGH_TOKENS[self.place.device]:,} tokens, and in {MEMORY_SHARE:.0%} of "
            f"{self.place.memory / 2**30:.0f} GiB ({self.place.device}); takes {need / 2**30:.2g} GiB",
            "haina.train.memory",
        )
        accumulation = self.choose(
            "gradient_accumulation",
            max(1, rules.power_of_two(rows / micro)),
            f"B = {rules.ANCHOR_STEP_TOKENS:,} (D / {rules.ANCHOR_TOKENS / 1e6:.0f}M)^{rules.BATCH_EXPONENT} = "
            f"{wanted:,.0f} tokens a step, to a power of two of rows",
            "arXiv 2505.13738; anchor: decision 27",
        )
        return micro, accumulation

    def _fitting(self, row: int, most: int) -> tuple[int, int]:
        """The largest power of two of rows up to `most` whose step fits into memory, and the bytes it takes."""
        from haina.train.memory import estimate

        given = self.given
        rows = 1 << (max(1, most).bit_length() - 1)
        while True:
            need = estimate(
                self.shape,
                micro_batch_size=rows,
                sequence_length=row,
                optimizer=given.get("optimizer", "muon"),
                dtype="fp32" if given.get("precision") == "fp32" else "bf16",
                device=self.place.device,
                loss_chunk=given.get("loss_chunk_tokens", 0),
                recompute=given.get("recompute", "none"),
                compiled=given.get("compile", self.place.device == "cuda"),
                accumulation=2,
                document_mask=given["loader"].document_mask if "loader" in given else True,
                split_weights=given.get("split_weights", False),
            ).total
            if need <= MEMORY_SHARE * self.place.memory or rows == 1:
                return rows, need
            rows //= 2

    def optimizer(self) -> None:
        shape, tokens, batch = self.shape, self.tokens, self.tokens_per_step
        muon = (
            self.choose(
                "optimizer", "muon", "Muon for the matrices of the blocks, AdamW for the rest", "decision 27"
            )
            == "muon"
        )
        self.choose(
            "initialisation", "fan_in", "1 / (2 sqrt(fan in)), blocks begin as the identity", "decision 27"
        )
        if muon:
            moved = (
                f"(B / {rules.ANCHOR_STEP_TOKENS:,})^{rules.RATE_BATCH_EXPONENT} "
                f"(D / {rules.ANCHOR_TOKENS / 1e6:.0f}M)^{rules.RATE_TOKENS_EXPONENT}, at most "
                f"{rules.MOST_RAISED:g} times"
            )
            rate = self.choose(
                "matrix_learning_rate",
                rules.rounded(rules.matrix_rate(tokens, batch)),
                f"{rules.MATRIX_RATE} {moved}, for any width and depth",
                "arXiv 2310.17813, 2603.28743; decision 27",
            )
            self.choose(
                "matrix_momentum",
                rules.matrix_momentum(self.value["steps"]),
                f"0.95 from {rules.LONG_RUN:,} steps on, 0.9 below",
                "decision 27",
            )
            self.choose(
                "learning_rate",
                rules.rounded(rules.embedding_rate(tokens, batch)),
                f"of embeddings and norms: {rules.EMBEDDING_RATE} {moved}",
                "arXiv 2203.03466; decision 27",
            )
        else:
            rate = self.choose(
                "learning_rate",
                rules.rounded(rules.adamw_rate(shape.parameter_count)),
                "0.0047 / 2 (N / 108M)^(-1/3)",
                "OLMo-core, model ladder",
            )
        self.choose("z_loss", rules.Z_LOSS, "keeps log Z of the softmax near 0", "arXiv 2501.00656")
        decay = rules.weight_decay(shape.parameter_count, tokens, batch, rate)
        self.choose(
            "weight_decay",
            rules.rounded(decay, 2),
            "1 / (rate * decay) steps = 1.08 (D / N)^-0.527 of the run",
            "arXiv 2505.13738",
        )

    def schedule(self) -> None:
        steps = self.value["steps"]
        self.choose("schedule", "wsd", "warm-up, stable, decay", "arXiv 2404.06395")
        self.choose(
            "warmup_steps",
            rules.warmup_steps(steps),
            f"{rules.WARMUP_SHARE:.0%} of the steps, {rules.SHORTEST_WARMUP} to {rules.LONGEST_WARMUP:,}, at most a "
            "quarter",
            "arXiv 2404.06395",
        )
        self.choose(
            "decay_share", rules.DECAY_SHARE, "share of the steps that decay, linearly", "decision 27"
        )
        self.choose(
            "min_learning_rate_ratio", rules.LAST_RATE, "nearly to zero; no step is idle", "arXiv 2502.15938"
        )

    def upkeep(self) -> None:
        steps = self.value["steps"]
        self.choose("compile", self.place.device == "cuda", "where there is a GPU", "docs/guide/gpu.md")
        self.choose("log_every", max(1, steps // LINES), f"{LINES} lines of metrics", "convention")
        self.choose("evaluate_every", max(1, steps // EVALUATIONS), f"{EVALUATIONS} times", "convention")
        self.choose(
            "validation_tokens",
            EVALUATED_TOKENS,
            "of each language: error of the mean about 1 %",
            "convention",
        )
        self.choose("checkpoint_every", max(1, steps // CHECKPOINTS), f"{CHECKPOINTS} times", "convention")


def epochs_note(tokens: int, available: int) -> Choice:
    """How often the training text will be read."""
    epochs = tokens / available
    if epochs <= 1:
        rule = "no text is read twice"
    elif epochs <= FREE_EPOCHS:
        rule = f"up to {FREE_EPOCHS} times is nearly as good as new text"
    else:
        rule = f"more than {FREE_EPOCHS} times: bring more text, or train on fewer tokens"
    return Choice("(epochs)", f"{epochs:.2f}", f"{available:,} tokens to read; {rule}", "arXiv 2305.16264")


def apply(choices: list[Choice]) -> dict[str, Any]:
    """The fields that were chosen, for a `train` section."""
    return {choice.name: choice.value for choice in choices if choice.is_field}


def defaults_checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the types that TrainConfig gives it.

    Raises:
        pydantic.ValidationError: a field is unknown or out of range.
    """
    # So many steps, and so few to warm up in, that what is not given refuses nothing that is.
    checked = TrainConfig.model_validate({"steps": 1 << 40, "warmup_steps": 0, **given})
    return {name: getattr(checked, name) for name in given}
