"""`haina shards pack`: make the packing plan of a run before its ranks start, and say how well it packs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from haina.cli.common import JsonOption, SetOption, existing, human_bytes, print_json, print_table


def pack(
    shards: Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `haina shards write`.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of plans, `train.loader.plans` of a recipe."),
    ],
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", "-n", min=1, help="Tokens of a row, as train.sequence_length.")
    ],
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Pack documents into rows once, so that all ranks of a run map the same plan.

    --set names fields of train.loader: packing, by, weights, epochs, ...

    Example: haina shards pack shards/ --sequence-length 4096 --out plans/
    """
    from haina.recipe.schema import section_from
    from haina.shards.loader import open_loader
    from haina.shards.loader_settings import LoaderSection

    section = section_from(LoaderSection, overrides or [])
    loader = open_loader(existing([shards])[0], section.with_sizes(sequence_length, 1, 0), out)
    plan = loader.plan
    facts: dict[str, Any] = {
        "rows": plan.packs,
        "sequence_length": sequence_length,
        "packing": section.packing,
        "padding": plan.padding,
        "documents_longer_than_a_row": plan.cut,
        "documents_without_a_target": plan.empty,
        "plan_bytes": plan.pieces.nbytes + plan.pack_first.nbytes,
        "domains": [
            {
                "name": domain.name,
                "rows": domain.packs,
                "documents": domain.documents,
                "targets": domain.targets,
                "share_of_rows": int(count) / loader.order.period,
            }
            for domain, count in zip(plan.domains, loader.order.counts, strict=True)
        ],
    }
    if json_output:
        print_json(facts)
        return
    rows = [
        (
            domain["name"] or "all",
            f"{domain['documents']:,}",
            f"{domain['targets']:,}",
            f"{domain['rows']:,}",
            f"{domain['share_of_rows']:.2%}",
        )
        for domain in facts["domains"]
    ]
    print_table(
        f"rows of {sequence_length:,} tokens, {section.packing}: padding {plan.padding:.3%}, "
        f"{plan.cut:,} documents are longer than a row, plan {human_bytes(facts['plan_bytes'])} in {out}",
        ("domain", "documents", "tokens to predict", "rows", "share of rows"),
        rows,
    )
