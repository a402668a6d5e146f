"""Learns and measures the byte-level BPE tokenizer: curated documents in, a tokenizer folder out.

`train_tokenizer(texts, config)`, `compression(tokenizer, texts)`, `stage.run(config, context)`. To open a
tokenizer use `haina.runtime.tokenizer_file.TokenizerFile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haina.tokenizer.measure import compression
    from haina.tokenizer.train import train_tokenizer

__all__ = ["compression", "train_tokenizer"]


def __getattr__(name: str) -> Any:
    if name == "compression":
        from haina.tokenizer.measure import compression

        return compression
    if name == "train_tokenizer":
        from haina.tokenizer.train import train_tokenizer

        return train_tokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
