"""Raw pages in, curated documents out: read, extract, identify language, cut, measure, score, remove duplicates.

Heavy parts are imported on first use, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from haina.runtime.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from haina.corpus.config import CorpusConfig as CorpusConfig
    from haina.corpus.documents import read_documents as read_documents
    from haina.corpus.extract import ExtractedPage as ExtractedPage
    from haina.corpus.extract import extract_page as extract_page
    from haina.corpus.language import identify_language as identify_language
    from haina.corpus.stage import run as run

use_kernel_cache()

_EXPORTS = {
    "CorpusConfig": "haina.corpus.config",
    "ExtractedPage": "haina.corpus.extract",
    "extract_page": "haina.corpus.extract",
    "identify_language": "haina.corpus.language",
    "read_documents": "haina.corpus.documents",
    "run": "haina.corpus.stage",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)
