"""From logits to one token id: repetition penalty, temperature, top-k, top-p, draw.

The order is that of transformers' `generate`. Everything happens on the CPU in float32 with the request's own
generator, so a seed gives the same text whatever else the process draws.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from haina.inference.parameters import SamplingParameters


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make every token in `seen` less likely (CTRL, arXiv 1909.05858, section 4.1, with HF's rule for
    negative logits).

    Args:
        logits: float32 [vocab].
        seen: bool [vocab], True for tokens of the prompt and of the text so far.
        penalty: > 0; above 1 discourages, below 1 encourages.
    """
    weaker = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, weaker, logits)


def candidates(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """The tokens that may be drawn, and with what probability.

    Args:
        logits: float32 [vocab], already divided by the temperature.
        top_k: keep this many of the most likely tokens; 0 keeps all.
        top_p: of those, keep the smallest set of most likely tokens whose probabilities reach this sum; the
            most likely token always stays.

    Returns:
        ids: int64 [n]; probabilities: float32 [n], summing to 1.
    """
    if top_k == 0 and top_p >= 1:
        return torch.arange(logits.shape[0]), logits.softmax(-1)
    if 0 < top_k < logits.shape[0]:
        kept, ids = logits.topk(top_k)
    else:
        kept, ids = logits.sort(descending=True, stable=True)
    probabilities = kept.softmax(-1)
    if top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        count = max(1, int((before < top_p).sum()))
        ids, probabilities = ids[:count], probabilities[:count] / probabilities[:count].sum()
    return ids, probabilities


class Sampler:
    """Draws the tokens of one request.

    Args:
        parameters: how to choose.
        prompt: ids that count as already said for the repetition penalty.
        vocab_size: length of the logits.
    """

    def __init__(self, parameters: SamplingParameters, prompt: Iterable[int], vocab_size: int) -> None:
        self.parameters = parameters
        self.seen = torch.zeros(vocab_size, dtype=torch.bool)
        self.seen[torch.tensor(list(prompt), dtype=torch.int64)] = True
        self.generator = torch.Generator()
        if parameters.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(parameters.seed)

    def next(self, logits: Tensor) -> int:
        """The next token id.

        Args:
            logits: [vocab], any float dtype and device.
        """
        scores = logits.to("cpu", torch.float32)
        if self.parameters.repetition_penalty != 1:
            scores = penalise_repetition(scores, self.seen, self.parameters.repetition_penalty)
        if self.parameters.temperature == 0:
            chosen = int(scores.argmax())
        else:
            # The largest logit becomes 0 first: a tiny temperature would overflow it to infinity.
            scaled = (scores - scores.max()) / self.parameters.temperature
            ids, probabilities = candidates(scaled, self.parameters.top_k, self.parameters.top_p)
            chosen = int(ids[torch.multinomial(probabilities, 1, generator=self.generator)])
        self.seen[chosen] = True
        return chosen
