"""Evaluation items in training text: read them, index them, find them.

    index = build_index(read_benchmarks([Path("ceval.zip"), Path("own.jsonl")]).items)
    matches = find_contamination(texts, index)          # texts, starts, ends (UTF-8 bytes), items, scores, methods

`save_index` writes one file that `load_index` maps, so that workers share it. `stage.run` does the same over Parquet
files and drops the documents that hold an item.
"""

from haina.corpus.decontaminate.build import build_index
from haina.corpus.decontaminate.find import Matches, find_contamination
from haina.corpus.decontaminate.index import Index, load_index, save_index
from haina.corpus.decontaminate.items import Benchmarks, Item, read_benchmarks

__all__ = [
    "Benchmarks",
    "Index",
    "Item",
    "Matches",
    "build_index",
    "find_contamination",
    "load_index",
    "read_benchmarks",
    "save_index",
]
