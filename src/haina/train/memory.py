"""A model's shape and how it is trained in, the memory of one training step out, by component, without running it.

What lives at once is counted with the true shapes: parameters, gradients, optimizer state, the weights' copies in low
precision, what the forward pass keeps for the backward pass (operation by operation), the loss and the temporaries. A
step has a few moments at which memory can peak - the loss, either end of the backward pass, the update - and the
estimate is of the largest. Imports no torch: an estimate is made before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from haina.model.config import ModelConfig

if TYPE_CHECKING:
    from haina.train.config import TrainConfig

GIB = 1 << 30
LARGEST_SLICE = 1 << 26  # elements that an optimizer works on at once
# Most that is alive for each element of a stack: three float32 numbers, five bf16 ones and a float32 sum's rest.
MUON_BYTES = 23
WIDE, HALF = 4, 2  # bytes of float32 and of bf16
Path = Literal["plain", "compiled", "fused"]
Recompute = Literal["none", "selective", "full"]
MOST_SETTINGS = 3
# cuBLAS keeps 32 MiB a handle on Hopper, 8 MiB elsewhere; cuDNN's attention asks for about as much.
CUDA_WORKSPACE = 64 << 20
# A caching allocator hands out blocks of whole MiB and cannot join what is left between them.
CUDA_FRAGMENTATION = 0.02


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device at the fullest moment of a step.

    Attributes:
        components: bytes by name, in the order of a report.
        moment: when that is.
        settings: what was estimated, one line.
    """

    components: Mapping[str, int]
    moment: str
    settings: str

    @property
    def total(self) -> int:
        return sum(self.components.values())

    def report(self) -> str:
        """A line for each component that is there, and the total."""
        lines = [f"{size / GIB:10.3f} GiB  {name}" for name, size in self.components.items() if size]
        lines.append(f"{self.total / GIB:10.3f} GiB  total, at the {self.moment} ({self.settings})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Step:
    """One micro-batch on one device, in the terms of the formulas.

    Attributes:
        tokens: of a micro-batch; row: of one of its rows.
        item: bytes of an operand of a matrix product.
    """

    config: ModelConfig
    tokens: int
    row: int
    item: int
    cuda: bool
    path: Path
    recompute: Recompute
    masked: bool
    split_weights: bool

    @property
    def query(self) -> int:
        return self.config.num_attention_heads * self.config.head_dim

    @property
    def key(self) -> int:
        return self.config.num_key_value_heads * self.config.head_dim

    @property
    def matrices(self) -> int:
        """Weights of the blocks' matrices."""
        return self.config.num_hidden_layers * self.config.block_parameters

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.config.vocab_size * self.config.hidden_size


def _attention_kept(step: _Step) -> int:
    """Bytes a token that the attention operator keeps: its three inputs, its output, the logarithm of its sums.

    With a mask, CUDA's kernels want as many key heads as query heads.
    """
    copies = 1 if step.cuda else 2  # on CPU the heads are put side by side in a copy
    mask = step.item * step.row if step.masked else 0
    sums = WIDE * step.config.num_attention_heads
    key = step.query if step.masked and step.cuda else step.key
    return step.item * (step.query + 2 * key + copies * step.query) + sums + mask


def _plain_kept(step: _Step) -> int:
    """Bytes a token that a block keeps for its backward pass, operation by operation, under autocast.

    Each norm: its input and the normalised values in float32, and one number. Each product: its input, cast anew for
    every product. SwiGLU: both halves, the silu and the product.
    """
    config, item = step.config, step.item
    width, inner = config.hidden_size, config.intermediate_size
    norms = 2 * (2 * WIDE * width + WIDE)
    inputs = (5 if item < WIDE else 2) * item * width
    if config.qk_norm:
        heads = config.num_attention_heads + config.num_key_value_heads
        norms += (WIDE + item) * (step.query + step.key) + WIDE * heads
    return norms + inputs + _attention_kept(step) + 4 * item * inner


def _compiled_kept(step: _Step) -> int:
    """As `_plain_kept`, of a block compiled as a whole: what its partitioner does not compute again.

    The residual stream once, both norms' outputs and the output of the attention's projection in the low precision.
    """
    config, item = step.config, step.item
    width, inner = config.hidden_size, config.intermediate_size
    kept = WIDE * width + 2 * WIDE + 3 * item * width
    if config.qk_norm:
        heads = config.num_attention_heads + config.num_key_value_heads
        kept += item * (step.query + step.key) + WIDE * heads
    return kept + _attention_kept(step) + 3 * item * inner


def _selective_kept(step: _Step) -> int:
    """Input of the block, outputs of its products but the last, and of attention; see `haina.train.recompute`."""
    config, item = step.config, step.item
    attention = item * step.query + WIDE * config.num_attention_heads
    products = item * (step.query + 2 * step.key + config.hidden_size + 2 * config.intermediate_size)
    return WIDE * config.hidden_size + products + attention


def _fused_kept(step: _Step) -> int:
    """As `_plain_kept`, of `haina.model.fused`: normed rows, packed products, attention's output."""
    config, item = step.config, step.item
    rows = item * (2 * config.hidden_size + 2 * step.query + 2 * step.key + 2 * config.intermediate_size)
    return rows + 2 * WIDE + WIDE * config.num_attention_heads


def _block_kept(step: _Step) -> int:
    """Bytes that one block keeps for its backward pass, recomputation aside."""
    kept = {"plain": _plain_kept, "compiled": _compiled_kept, "fused": _fused_kept}
    return kept[step.path](step) * step.tokens


def _copies(step: _Step) -> int:
    """Bytes of the blocks' weights as the products read them, where that is not the parameters themselves."""
    config = step.config
    if step.split_weights:
        return 0
    if step.item < WIDE:
        return step.item * step.matrices
    packed = step.query + 2 * step.key + 2 * config.intermediate_size
    return WIDE * config.num_hidden_layers * config.hidden_size * packed if step.path == "fused" else 0


def _activations(step: _Step) -> int:
    """Bytes kept between forward and backward, all blocks and what is around them."""
    config, tokens = step.config, step.tokens
    kept = {
        "none": _block_kept(step),
        "selective": _selective_kept(step) * tokens,
        "full": WIDE * config.hidden_size * tokens,
    }[step.recompute]
    # Token ids and rotary tables; the last norm's input in float32 and values, or values alone, and its result.
    places = 8 * tokens + 2 * WIDE * (config.head_dim // 2) * (tokens if step.masked else step.row)
    wide = 0 if step.path == "fused" else 2 * WIDE - step.item
    last = (wide + 2 * step.item) * config.hidden_size + WIDE
    mask = tokens * step.row if step.masked and step.recompute != "none" else 0
    return config.num_hidden_layers * kept + places + last * tokens + mask


def _recomputed(step: _Step) -> int:
    """Bytes of the one block that is being computed again."""
    if step.recompute == "none":
        return 0
    there = _selective_kept(step) if step.recompute == "selective" else WIDE * step.config.hidden_size
    return _block_kept(step) - there * step.tokens


def _backward_temporaries(step: _Step) -> int:
    """Gradients in flight at the last block or norm: of the residual stream, and of what is wider inside."""
    config, item = step.config, step.item
    stream = WIDE * config.hidden_size
    if step.path == "fused":
        return step.tokens * (stream + 2 * item * config.hidden_size + 4 * item * config.intermediate_size)
    if step.recompute == "none":
        return step.tokens * 3 * stream
    return step.tokens * (stream + item * config.intermediate_size)


def _loss_kept(step: _Step) -> int:
    """Gradients of the hidden states and of the head, which the forward pass of the loss already forms."""
    normalized = WIDE * step.head if step.config.normalized_head else 0
    return step.item * step.config.hidden_size * step.tokens + WIDE * step.head + normalized


def _loss_temporaries(step: _Step, chunk: int) -> int:
    """Logits and their gradient, the head's gradient of a part, and the head in low precision.

    What belongs to one part is dropped while the next one's is made. On a CPU the logits become their gradient in
    place; elsewhere there are logits, the same in float32, and the gradient.
    """
    item, parts = step.item, 1 if chunk >= step.tokens else 2
    logits, part = min(chunk, step.tokens) * step.config.vocab_size, item * step.head
    low = part if item < WIDE else 0
    if not step.cuda:
        return low + max(parts * item * logits + (parts - 1) * part, item * logits + parts * part)
    making = logits * ((1 + parts) * item + (WIDE if item < WIDE else 0)) + (parts - 1) * part
    return low + max(making, 2 * item * logits + parts * part)


def _optimizer_state(config: ModelConfig, optimizer: str) -> int:
    """AdamW: two moments a parameter; Muon: one for the blocks' matrices."""
    moments = 2 * config.parameter_count
    if optimizer == "muon":
        moments -= config.num_hidden_layers * config.block_parameters
    return WIDE * moments


def _update_temporaries(config: ModelConfig, optimizer: str) -> int:
    """AdamW keeps the old weights of a slice; Muon has stacks of matrices, their updates, and products of these."""
    if optimizer == "adamw":
        blocks = config.num_hidden_layers * config.block_parameters
        group = max(blocks, config.parameter_count - blocks)
        largest = max(config.vocab_size, config.intermediate_size) * config.hidden_size
        return WIDE * max(min(group, LARGEST_SLICE), largest)
    matrix = config.intermediate_size * config.hidden_size
    of_one_shape = 2 * config.num_hidden_layers * matrix
    return MUON_BYTES * min(of_one_shape, max(LARGEST_SLICE // matrix * matrix, matrix))


def chunk_tokens(config: ModelConfig, item: int) -> int:
    """Tokens whose logits exist at once where no number is given; as `haina.train.loss.chunk_tokens`."""
    return max(512, (16 << 20) // (config.vocab_size * item) // 64 * 64)


def _item_size(dtype: object) -> int:
    name = str(dtype).removeprefix("torch.")
    sizes = {"bfloat16": HALF, "bf16": HALF, "float16": HALF, "float32": WIDE, "fp32": WIDE}
    if name not in sizes:
        raise ValueError(f"dtype {name}: choose one of {', '.join(sizes)}")
    return sizes[name]


def estimate(
    model_config: ModelConfig,
    *,
    micro_batch_size: int,
    sequence_length: int,
    optimizer: str = "adamw",
    dtype: object = "bfloat16",
    device: object = "cuda",
    loss_chunk: int = 0,
    recompute: Recompute = "none",
    compiled: bool = False,
    accumulation: int = 1,
    document_mask: bool = False,
    path: Path | None = None,
    split_weights: bool = False,
) -> MemoryEstimate:
    """Memory of a training step on one device.

    Args:
        micro_batch_size, sequence_length: rows and tokens a row of one forward pass.
        optimizer: "adamw" or "muon".
        dtype: of the matrix products, a torch dtype or its name; parameters, gradients and moments are float32.
        device: "cuda" or "cpu", or a torch device.
        loss_chunk: tokens whose logits exist at once; 0: as `haina.train.loss` chooses.
        recompute: what `haina.train.recompute` leaves to the backward pass.
        compiled: whether blocks are compiled, where they are not fused.
        accumulation: micro-batches a step; above 1 all gradients exist while activations do.
        document_mask: whether attention is kept within documents by a mask.
        path: which forward pass; default: the fused one on a CPU that it can run on, else compiled or plain.
        split_weights: whether weights are kept as `haina.train.split_adamw` does; what the products read takes no room
            of its own.

    Returns:
        the estimate at the fullest moment, without what the CUDA context itself takes (about 0.5 GiB).
    """
    cuda = str(device).startswith("cuda")
    not_fused = cuda or split_weights or recompute != "none"
    step = _Step(
        model_config,
        tokens=micro_batch_size * sequence_length,
        row=sequence_length,
        item=_item_size(dtype),
        cuda=cuda,
        path=path or ("fused" if not not_fused else "compiled" if compiled else "plain"),
        recompute=recompute,
        masked=document_mask,
        split_weights=split_weights,
    )
    states = {
        "parameters": WIDE * model_config.parameter_count,
        "optimizer state": _optimizer_state(model_config, optimizer),
    }
    moments = _moments(step, optimizer, loss_chunk or chunk_tokens(model_config, step.item), accumulation)
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    components = {**states, **moments[moment]}
    if cuda:
        components["library workspace"] = CUDA_WORKSPACE
        components["fragmentation"] = round(CUDA_FRAGMENTATION * sum(moments[moment].values()))
    settings = (
        f"{model_config.parameter_count:,} parameters, {micro_batch_size} x {sequence_length} tokens, {optimizer}, "
        f"{'fp32' if step.item == WIDE else 'bf16'}, recompute {recompute}, {step.path} path"
    )
    return MemoryEstimate(components, moment, settings)


def _moments(step: _Step, optimizer: str, chunk: int, accumulation: int) -> dict[str, dict[str, int]]:
    """What lives besides parameters and optimizer state, at each moment that can be the fullest."""
    kept, copies, loss = _activations(step), _copies(step), _loss_kept(step)
    # Recomputed blocks cast their weights anew; of the forward pass nothing but the casts' cache has them.
    copies_kept = copies if step.recompute == "none" else 0
    gradients = WIDE * step.config.parameter_count
    earlier = gradients if accumulation > 1 else 0
    scaled = loss if step.cuda else 0
    moments = {
        "loss": {"activations": kept, "loss": loss + _loss_temporaries(step, chunk)},
        "start of the backward pass": {
            "activations": kept,
            "recomputed": _recomputed(step),
            "loss": loss,
            "temporaries": max(scaled, _backward_temporaries(step)),
        },
    }
    moments = {
        name: {"gradients": earlier, "weights in low precision": copies_kept, **parts}
        for name, parts in moments.items()
    }
    layers = step.config.num_hidden_layers
    below = WIDE * (step.config.block_parameters + (0 if step.config.tie_word_embeddings else step.head))
    moments["backward pass of the first block"] = {
        "gradients": max(earlier, gradients - below),
        "weights in low precision": copies // layers,
        "activations": kept // layers,
        "recomputed": _recomputed(step),
        "temporaries": _backward_temporaries(step),
    }
    # A tied matrix gets a gradient as the head and one as the embedding, and their sum is a third.
    tied = 2 * WIDE * step.head if step.config.tie_word_embeddings else 0
    added = WIDE * step.head if accumulation > 1 else 0
    moments["end of the backward pass"] = {"gradients": gradients, "temporaries": max(tied, added)}
    moments["update"] = {
        "gradients": gradients,
        "temporaries": _update_temporaries(step.config, optimizer),
    }
    return moments


def estimate_for(config: TrainConfig, shape: ModelConfig, device: object, dtype: object) -> MemoryEstimate:
    """The estimate of a run's own settings."""
    return estimate(
        shape,
        micro_batch_size=config.micro_batch_size,
        sequence_length=config.sequence_length,
        optimizer=config.optimizer,
        dtype=dtype,
        device=device,
        loss_chunk=config.loss_chunk_tokens,
        recompute=config.recompute,
        compiled=config.compile,
        accumulation=config.gradient_accumulation,
        document_mask=config.loader.document_mask,
        split_weights=config.split_weights,
    )


def fitting_settings(
    config: TrainConfig,
    shape: ModelConfig,
    free_bytes: int,
    device: object = "cuda",
    dtype: object = "bfloat16",
) -> list[str]:
    """Three changes of `config` that would fit into `free_bytes`, what costs least first, each with its estimate.

    The rows of a step stay in all of them: fewer at once are more micro-batches. Each kind of change goes as far as it
    has to and no further. Fewer than three come back where nothing else fits.
    """
    found: list[str] = []
    for kind in _changes(config, _item_size(dtype) < WIDE):
        for changes in kind:
            needed = estimate_for(config.model_copy(update=changes), shape, device, dtype).total
            if needed <= free_bytes:
                words = " ".join(f"train.{name}={value}" for name, value in changes.items())
                found.append(f"{words}: {needed / GIB:.1f} GiB")
                break
        if len(found) == MOST_SETTINGS:
            break
    return found


def _changes(config: TrainConfig, rounded: bool) -> Iterator[Iterator[dict[str, Any]]]:
    """Kinds of change; of each, the mild ones first. `rounded`: products are in bf16."""
    rows = config.rows_per_step
    fewer = [size for size in range(config.micro_batch_size - 1, 0, -1) if rows % size == 0]
    batches: list[dict[str, Any]] = [
        {"micro_batch_size": size, "gradient_accumulation": rows // size} for size in fewer
    ]
    again: list[dict[str, Any]] = [{"recompute": mode} for mode in ("selective", "full")]
    split: list[dict[str, Any]] = []
    if config.optimizer == "adamw" and rounded and not config.split_weights:
        split = [{"split_weights": True}]
    chunk: list[dict[str, Any]] = [{"loss_chunk_tokens": size} for size in (512, 256, 128, 64)]
    muon: list[dict[str, Any]] = (
        [{"optimizer": "muon", **({"split_weights": False} if config.split_weights else {})}]
        if config.optimizer != "muon"
        else []
    )
    shorter: list[dict[str, Any]] = [
        {"sequence_length": config.sequence_length >> bits}
        for bits in range(1, config.sequence_length.bit_length() - 6)
    ]
    yield iter(split)
    yield iter(batches)
    yield iter(again)
    yield ({**few, **mode} for few in batches for mode in again)
    yield iter(chunk)
    yield iter(muon)
    yield ({**small, **more} for more in muon for small in [*batches, *chunk])
    yield iter(shorter)
    yield ({**few, **small} for small in chunk for few in batches)
    yield ({**few, **short} for short in shorter for few in batches[-1:])
    yield ({**few, **short, **more} for short in shorter for few in batches[-1:] for more in [*muon, *again])
