"""`haina tokenizer gguf`: the vocabulary as llama.cpp reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, console, human_bytes, print_json


def gguf(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A tokenizer or model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.gguf", help="File to write.")],
    json_output: JsonOption = False,
) -> None:
    """Write the vocabulary as a GGUF file without weights, for llama.cpp.

    Example: haina tokenizer gguf tokenizer/ --out vocabulary.gguf
    """
    from haina.runtime.gguf_vocabulary import PRE_TOKENIZER, write_vocabulary

    vocabulary = write_vocabulary(folder, out)
    size = out.stat().st_size
    if json_output:
        print_json(
            {
                "file": str(out),
                "bytes": size,
                "tokens": len(vocabulary.tokens),
                "merges": len(vocabulary.merges),
                "pre_tokenizer": PRE_TOKENIZER,
                "special_ids": vocabulary.special_ids,
            }
        )
        return
    console().print(
        f"{out}: {len(vocabulary.tokens):,} tokens, {len(vocabulary.merges):,} merges, {human_bytes(size)}",
        markup=False,
    )
