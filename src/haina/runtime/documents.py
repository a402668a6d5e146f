"""The curated-documents table, as the stages after the corpus read it.

In: the `corpus` output, whose `documents/part-*.parquet` hold one document a row. Out: record batches in a
fixed order (parts by name, rows as written), so that everything made from them is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError

# A bilingual document counts as Chinese: it is never without it.
LANGUAGE_GROUPS = {"zh-Hans": "zh", "zh-Hant": "zh", "yue": "zh", "mixed": "zh", "en": "en"}


def language_group(lang: str) -> str:
    """`zh` or `en`: the language that results are reported for, whatever the script.

    Raises:
        HainaError: another language; the corpus stage keeps only these.
    """
    group = LANGUAGE_GROUPS.get(lang)
    if group is None:
        raise HainaError(
            f"corpus: document language {lang!r}", f"`lang` must be one of {', '.join(LANGUAGE_GROUPS)}"
        )
    return group


def document_parts(corpus: Path) -> list[Path]:
    """The part files of a corpus, in order.

    Raises:
        HainaError: there are none.
    """
    parts = sorted((corpus / "documents").glob("part-*.parquet"))
    if not parts:
        raise HainaError(f"{corpus / 'documents'}: no part-*.parquet files", "run the corpus stage first")
    return parts


def read_batches(parts: Sequence[Path], columns: Sequence[str], batch_size: int = 512) -> Iterator[Any]:
    """Record batches (`pyarrow.RecordBatch`, at most `batch_size` rows) of the named columns.

    Raises:
        HainaError: a part is damaged or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in parts:
        try:
            with pq.ParquetFile(part) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise HainaError(f"{part}: no column {missing[0]!r}", "run the corpus stage again")
                yield from file.iter_batches(batch_size=batch_size, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise HainaError(
                f"{part}: not a readable Parquet file ({error})", "run the corpus stage again"
            ) from error
