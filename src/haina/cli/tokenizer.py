"""`haina tokenizer`: train one, compare it with others, look at how one cuts a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli import tokenizer_compare, tokenizer_gguf
from haina.cli.common import JsonOption, SetOption, console, existing, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="Train a tokenizer, compare it with others, look at how one cuts a text."
)


@app.command()
def train(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Documents: Parquet, JSON lines or text, plain, .gz or .zst; files or folders.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    vocab_size: Annotated[int, typer.Option(min=512, help="Pieces, special tokens included.")] = 8192,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a byte-level BPE tokenizer on documents; transformers, vLLM and llama.cpp conversion open the folder.

    Example: haina tokenizer train corpus/ --vocab-size 64000 --out tokenizer/
    """
    from haina.recipe.alone import run_alone
    from haina.recipe.schema import section_from
    from haina.runtime.files import read_json
    from haina.tokenizer.config import TokenizerConfig
    from haina.tokenizer.stage import run as run_tokenizer

    config = section_from(TokenizerConfig, overrides or [], {"vocab_size": vocab_size})
    run_alone(run_tokenizer, config, {"tokenizer": out}, sources=existing(inputs))
    summary = read_json(out / "summary.json")
    if json_output:
        print_json(summary)
        return
    print_table(
        f"{out}: {summary['vocab_size']:,} pieces",
        ("language", "bytes per token", "tokens per character"),
        [
            (lang, f"{item['bytes_per_token']:.3f}", f"{item['tokens_per_character']:.3f}")
            for lang, item in summary["compression"].items()
        ],
    )


app.command()(tokenizer_compare.compare)
app.command()(tokenizer_gguf.gguf)


@app.command()
def encode(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A tokenizer or model folder.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text.")],
    json_output: JsonOption = False,
) -> None:
    """Show the pieces and ids of a text.

    Example: haina tokenizer encode runs/quickstart/model "海纳百川 2023"
    """
    from haina.runtime.tokenizer_file import TokenizerFile
    from haina.tokenizer.pieces import readable

    tokenizer = TokenizerFile(folder)
    ids = tokenizer.encode(text)
    pieces = [readable(tokenizer.backend.id_to_token(token) or "") for token in ids]
    if json_output:
        print_json({"ids": ids, "pieces": pieces})
        return
    out = console()
    out.print("|".join(pieces), markup=False)
    out.print(" ".join(str(token) for token in ids), markup=False)
    out.print(
        f"{len(ids)} tokens, {len(text)} characters, {len(text.encode('utf-8', 'replace'))} bytes",
        markup=False,
    )
