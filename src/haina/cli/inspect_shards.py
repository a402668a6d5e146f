"""The sides of `haina inspect` that are about token shards: one token, one packed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.cli.common import console, print_json, print_table
from haina.runtime.errors import HainaError

if TYPE_CHECKING:
    from rich.text import Text

    from haina.runtime.tokenizer_file import TokenizerFile
    from haina.shards.look import TokenPlace
    from haina.shards.look_batch import BatchLook, RowLook

_COLOURS = {"zh": ("red", "bright_red"), "en": ("cyan", "bright_cyan"), "": ("magenta", "bright_magenta")}
_SHOWN_CELLS = 64
_NARROWEST_BAR = 40


def tokenizer_of(shards: Path, tokenizer: Path | None) -> TokenizerFile | None:
    """The named tokenizer, or the one that a run folder keeps beside its shards.

    Raises:
        HainaError: the shards were encoded with another one.
    """
    from haina.runtime.tokenizer_file import TokenizerFile
    from haina.shards.checksums import check_tokenizer
    from haina.shards.shard_set import read_description

    folder = tokenizer or shards.resolve().parent / "tokenizer"
    if tokenizer is None and not (folder / "tokenizer.json").is_file():
        return None
    opened = TokenizerFile(folder)
    check_tokenizer(shards, read_description(shards), opened)
    return opened


def show_token(
    shards: Path,
    split: str,
    token: int,
    tokenizer: Path | None,
    corpus: Path | None,
    pages: Sequence[str],
    as_json: bool,
) -> None:
    """Print where a token stands, and the way to its page as far as it is known."""
    from haina.recipe.find_page import document_in_corpus, find_page
    from haina.recipe.inputs import page_inputs
    from haina.shards.look import find_token

    opened = tokenizer_of(shards, tokenizer)
    if opened is None:
        raise HainaError(f"{shards}: no tokenizer beside it", "name its folder with --tokenizer DIR")
    place = find_token(shards, split, token, opened)
    beside = shards.resolve().parent / "corpus"
    if corpus is None and (beside / "documents").is_dir():
        corpus = beside
    document = document_in_corpus(corpus, place.row, place.byte_start, place.piece) if corpus else None
    page = find_page(page_inputs(pages), place.row) if pages else None
    if as_json:
        print_json(
            {
                **place.as_dict(),
                "corpus": asdict(document) if document else None,
                "page": page.as_dict() if page else None,
            }
        )
        return
    _print_place(place)
    if document is not None:
        _print_facts(
            f"in {document.corpus}",
            {
                **document.facts,
                "text": f"{document.text_bytes:,} bytes; the token's bytes "
                + (
                    "stand at its place"
                    if document.agrees
                    else "do NOT stand at its place: not the same text"
                ),
            },
        )
    if page is not None:
        kind = "page" if page.markup else "text"
        _print_facts(
            f"{kind} in {page.location}",
            {
                "position": page.position + (f" ({page.span})" if page.span else ""),
                "url": page.url,
                "size": f"{page.size:,}",
                "begins": page.beginning,
            },
        )
    elif place.row.get("source"):
        console().print(
            "  --pages INPUT... shows the record in the files that the corpus was made from", style="dim"
        )


def _print_facts(title: str, facts: dict[str, Any]) -> None:
    out = console()
    out.print(title, markup=False, style="bold")
    for name, value in facts.items():
        if value not in (None, ""):
            out.print(f"  {name}: {value}", markup=False)


def _print_place(place: TokenPlace) -> None:
    from rich.text import Text

    from haina.shards.look import around

    before, touched, after = around(place.before, place.piece, place.after)
    if place.special:
        stands = "the frame of a document, no text"
    else:
        whole = touched.encode("utf-8", "replace") == place.piece
        count = f"{len(place.piece)} byte{'s' * (len(place.piece) != 1)}"
        stands = f"{touched!r}, {count}" if whole else f"{count} of {touched!r}"
        stands += f": {place.piece.hex(' ')}"
    facts = {
        "id": f"{place.token_id} {place.name}" if place.special else place.token_id,
        "stands for": stands,
        "document": f"number {place.document:,} of {place.split}, {place.tokens:,} tokens",
        "place": f"token {place.offset:,} of the document, "
        f"bytes {place.byte_start:,} to {place.byte_end:,} of its text",
    }
    _print_facts(f"token {place.token:,} of {place.split}", facts)
    shown = Text("  ")
    shown.append("…" + before.replace("\n", "⏎"))
    shown.append(f"⟦{touched or place.name}⟧".replace("\n", "⏎"), style="bold reverse")
    shown.append(after.replace("\n", "⏎") + "…")
    console().print(shown)
    _print_facts(
        "document", {name: value for name, value in place.row.items() if name not in ("shard", "index")}
    )


def show_batch(
    shards: Path,
    step: int,
    sequence_length: int,
    rows: int,
    seed: int,
    packing: str,
    tokenizer: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Draw the batch of a step on the terminal, as JSON, or as a page."""
    from haina.recipe.schema import section_from
    from haina.runtime.files import write_text
    from haina.shards.loader import open_loader
    from haina.shards.loader_settings import LoaderSettings
    from haina.shards.look_batch import look_at_batch
    from haina.shards.look_page import payload, render
    from haina.shards.shard_set import TRAIN, ShardSet

    values = {"sequence_length": sequence_length, "rows": rows, "seed": seed, "packing": packing}
    loader = open_loader(shards, section_from(LoaderSettings, (), values))
    opened = tokenizer_of(shards, tokenizer)
    look = look_at_batch(loader.batch(step), ShardSet.open(shards, TRAIN), shards, TRAIN, opened)
    facts = {
        "step": f"{step:,}",
        "rows": f"{rows:,}",
        "tokens a row": f"{sequence_length:,}",
        "packing": packing,
        "seed": str(seed),
    }
    if html is not None:
        write_text(html, render(look, str(shards), facts))
        console().print(f"{html}: {rows:,} rows, {len(look.documents):,} documents", markup=False)
    elif as_json:
        print_json({"step": step, "seed": seed, "packing": packing, **payload(look)})
    else:
        _draw(look, f"{shards}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))


def _draw(look: BatchLook, title: str) -> None:
    from haina.cli.common import WIDE

    out = console()
    width = max(_NARROWEST_BAR, (out.width if out.is_terminal else WIDE) - 16)
    met = dict.fromkeys(block.document for row in look.rows for block in row.blocks)
    labels = {number: place for place, number in enumerate(met, 1)}
    out.print(title, markup=False, style="bold")
    out.print(
        f"  {len(labels):,} documents, padding {look.padding:.2%}, cut documents {look.cut}; "
        "│ a document begins, ‹ goes on from another row, › goes on in another row, · padding",
        markup=False,
    )
    for number, row in enumerate(look.rows):
        line = _bar(row, look, labels, width)
        line.append(f" +{row.padding:,}" if row.padding else "", style="dim")
        line = _labelled(number, line)
        out.print(line, no_wrap=True, overflow="ignore", crop=False)
    print_table(
        "documents",
        ("", "rows", "tokens", "language", "document", "begins"),
        [_line(look, number, label) for number, label in labels.items()],
        fold=False,
    )


def _labelled(number: int, line: Text) -> Text:
    from rich.text import Text

    return Text(f"{number:>5} ").append_text(line)


def _bar(row: RowLook, look: BatchLook, labels: dict[int, int], width: int) -> Text:
    """A row as `width` characters; a document narrower than one is hidden by its neighbour."""
    from rich.text import Text

    scale = width / look.sequence_length
    line = Text()
    for place, block in enumerate(row.blocks):
        start, end = round(block.column * scale), round((block.column + block.length) * scale)
        if end == start:
            continue
        inside = [*f"{labels[block.document]:─^{end - start}}"[: end - start]]
        if end - start > len(str(labels[block.document])):
            inside[0] = "‹" if block.cut_before else "│"
            if block.cut_after and end - start > 1 + len(str(labels[block.document])):
                inside[-1] = "›"
        lang = str(look.documents[block.document].get("lang") or "")
        group = "zh" if lang.startswith(("zh", "yue")) else "en" if lang == "en" else ""
        line.append("".join(inside), style=f"black on {_COLOURS[group][place % 2]}")
    return line.append("·" * (width - len(line)), style="dim")


def _line(look: BatchLook, number: int, label: int) -> tuple[str, ...]:
    from rich.cells import set_cell_size

    facts = look.documents[number]
    uses = [
        (place, block)
        for place, row in enumerate(look.rows)
        for block in row.blocks
        if block.document == number
    ]
    cut = any(block.cut_before or block.cut_after for _, block in uses)
    return (
        str(label),
        " ".join(str(place) for place in dict.fromkeys(place for place, _ in uses)),
        f"{facts['tokens']:,}{' cut' if cut else ''}",
        str(facts.get("lang") or ""),
        str(facts.get("id") or number),
        set_cell_size(str(facts["text"]), _SHOWN_CELLS).rstrip(),
    )
