"""`haina quality`: sets without labels, training, and scores as columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help="Score text: make training sets without labels, train a model, add score columns.",
)
LanguageOption = Annotated[str, typer.Option("--lang", metavar="zh|en", help="Language of the texts.")]


@app.command()
def sets(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Good text: Parquet or JSONL with `text`, or folders of such. A file is a domain.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for positive.parquet and negative.parquet.")
    ],
    language: LanguageOption = "zh",
    documents: Annotated[int, typer.Option(min=1, help="Most documents from one file.")] = 4000,
    passages: Annotated[int, typer.Option(min=1, help="Passages from one document.")] = 2,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="NAME", help="Leave out a corruption. May be given again."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every choice.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Make training sets from good text alone: passages of it, and each of them damaged in one of many ways.

    Example: haina quality sets encyclopaedia.parquet laws.parquet --lang zh --out sets/
    """
    from haina.corpus.quality.sets import SetOptions, write_sets
    from haina.runtime.progress import default_reporter

    options = SetOptions(language, documents, passages, frozenset(without or ()), seed=seed)
    counts = write_sets(inputs, out, options, default_reporter().say)
    if json_output:
        print_json({"pairs": counts, "out": str(out)})
        return
    print_table(
        f"pairs in {out}", ("domain", "pairs"), [(domain, f"{count:,}") for domain, count in counts.items()]
    )


@app.command()
def train(
    positive: Annotated[
        list[Path], typer.Option("--positive", metavar="PATH", help="Good text. May be given again.")
    ],
    negative: Annotated[
        list[Path], typer.Option("--negative", metavar="PATH", help="Bad text. May be given again.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="MODEL.npz", help="File to write.")],
    language: LanguageOption = "zh",
    calibrate: Annotated[
        float, typer.Option(help="Share kept for calibration and the printed figures.")
    ] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the texts.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the order and the dropout.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Train a quality model on good and bad text, and print how well it ranks text that it was not fitted on.

    Example: haina quality train --positive sets/positive.parquet --negative sets/negative.parquet --out zh.npz
    """
    from haina.corpus.quality.files import train_files, with_calibration
    from haina.corpus.quality.linear import FitOptions
    from haina.corpus.quality.scorer import check_language
    from haina.runtime.progress import default_reporter

    check_language(language)
    options = with_calibration(FitOptions(epochs=epochs, seed=seed), calibrate)
    model = train_files(positive, negative, language, out, options, default_reporter())
    report = model.provenance
    if json_output:
        print_json({**report, "out": str(out)})
        return
    rows = [("all", "", report["held_out_auc"])]
    rows += [("domain", name, value) for name, value in report["held_out_auc_by_domain"].items()]
    rows += [("fault", name, value) for name, value in report["held_out_auc_by_head"].items()]
    print_table(
        f"{out}: AUC on {report['held_out_texts']:,} texts held out",
        ("of", "name", "AUC"),
        [(kind, name, f"{value:.4f}") for kind, name, value in rows],
    )


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN.parquet", help="Documents with a column `text`.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="MODEL.npz",
            help="Instead of the shipped models. May be given again, one a language.",
        ),
    ] = None,
    sentences: Annotated[bool, typer.Option("--sentences", help="Also a score for every sentence.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Add `score.quality`, the chance from 0 to 1 that a document is good text, keeping all other columns.

    Example: haina quality score documents.parquet scored.parquet --sentences
    """
    from haina.corpus.quality.files import QUALITY, SENTENCES, score_file
    from haina.corpus.quality.scorer import Scorer
    from haina.runtime.progress import default_reporter

    scorer = Scorer.read(model) if model else Scorer.default()
    rows = score_file(source, target, scorer, sentences, default_reporter())
    columns = [QUALITY, SENTENCES] if sentences else [QUALITY]
    if json_output:
        print_json({"documents": rows, "columns": columns, "out": str(target)})
    else:
        print(f"{target}: {rows:,} documents with {' and '.join(columns)}")
