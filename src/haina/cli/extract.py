"""`haina extract`: the main text of HTML files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def extract(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="HTML files; - for standard input.")],
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a page, each on its line.")
    ] = False,
) -> None:
    """Print the main text of web pages, without menus, sidebars, advertisements and footers.

    A file that cannot be read is named on standard error and the others go on; the exit code is 2 then.

    Example: haina extract page.html --json
    """
    from haina.corpus.encoding import UndecodableError
    from haina.corpus.extract import extract_page
    from haina.corpus.language import identify_language
    from haina.runtime.errors import EXIT_USER_ERROR, HainaError, from_os_error

    failed = False
    for number, name in enumerate(files):
        try:
            page = extract_page(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())
        except (OSError, UndecodableError) as error:
            shown = (
                from_os_error(error, name)
                if isinstance(error, OSError)
                else HainaError(f"{name}: no text in any known encoding", "give an HTML file")
            )
            print(f"haina: {shown}", file=sys.stderr)
            failed = True
            continue
        if json_output:
            found = {
                "text": page.text,
                "title": page.title,
                "lang": identify_language(page.text).language,
                "kind": page.kind,
                "url": page.url,
                "date": page.date,
            }
            print(json.dumps(found, ensure_ascii=False), flush=True)
        else:
            print(("\n" if number else "") + "\n\n".join(part for part in (page.title, page.text) if part))
    if failed:
        raise typer.Exit(EXIT_USER_ERROR)
