"""Fast exact byte-pair encoding: `FastEncoder`.

`rules.py` reads a `tokenizer.json` or declines it, `tables.py` builds what the kernels walk, `spans.py` cuts text,
`kernel.py` encodes, `reference.py` is the definition that all are tested against.
"""

from haina.runtime.kernel_cache import use_kernel_cache

use_kernel_cache()  # before the kernels are imported: numba then decides where they are kept

from haina.runtime.bpe.encoder import FastEncoder  # noqa: E402

__all__ = ["FastEncoder"]
