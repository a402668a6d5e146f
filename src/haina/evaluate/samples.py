"""Texts that a model writes, to be read by a person beside the numbers.

In: beginnings in Chinese and English. Out: their continuations. The seed depends on the place of a prompt, so
that two models are compared on the same draws and a new prompt does not change the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from haina.evaluate.config import SamplesConfig

if TYPE_CHECKING:
    from haina.inference import Engine


def write_samples(engine: Engine, config: SamplesConfig, model: str, seed: int) -> list[dict[str, str]]:
    """One continuation of each prompt, in order: {lang, prompt, text, model, finish_reason}."""
    from haina.inference import SamplingParameters

    samples = []
    for language, prompts in config.prompts.items():
        for index, prompt in enumerate(prompts):
            parameters = SamplingParameters(
                max_tokens=config.max_tokens,
                temperature=config.temperature,
                top_k=config.top_k,
                top_p=config.top_p,
                repetition_penalty=config.repetition_penalty,
                seed=seed + index,
            )
            completion = engine.complete(prompt, parameters)
            samples.append(
                {
                    "lang": language,
                    "prompt": prompt,
                    "text": completion.text,
                    "model": model,
                    "finish_reason": completion.finish_reason,
                }
            )
    return samples
