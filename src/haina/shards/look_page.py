"""A batch as one HTML file that opens without a network.

Comes in: what `look_at_batch` found. Goes out: every row as a bar with its documents, the attention mask and the
positions of the row that is chosen, and the list of documents.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from haina.shards.look_batch import BatchLook

SHOWN = ("id", "source", "url", "lang", "domain", "tokens", "text")


def payload(look: BatchLook) -> dict[str, Any]:
    """The batch as plain JSON values; documents in the order in which they are met."""
    met = dict.fromkeys(block.document for row in look.rows for block in row.blocks)
    return {
        "sequence_length": look.sequence_length,
        "padding": round(look.padding, 6),
        "cut_documents": look.cut,
        "rows": [asdict(row) for row in look.rows],
        "documents": [
            {
                "number": number,
                **{
                    name: look.documents[number][name]
                    for name in SHOWN
                    if look.documents[number].get(name) is not None
                },
            }
            for number in met
        ],
    }


def render(look: BatchLook, title: str, facts: dict[str, str]) -> str:
    """The page.

    Args:
        look: the batch.
        title: the shards, shown at the top.
        facts: how the batch was made: step, seed and the like, shown below.
    """
    from jinja2 import Environment

    folder = files("haina.shards")
    template = Environment(autoescape=True).from_string(
        folder.joinpath("look_page.html.jinja").read_text(encoding="utf-8")
    )
    # "<" ends a script element wherever it stands, so none is left in the data.
    data = json.dumps(payload(look), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return template.render(
        title=title,
        facts=facts,
        style=folder.joinpath("look_page.css").read_text(encoding="utf-8"),
        script=folder.joinpath("look_page.js").read_text(encoding="utf-8"),
        data=data,
    )
