"""The main text of an HTML page: see `page` for the way it takes."""

from __future__ import annotations

from haina.corpus.extract.page import ExtractedPage, extract_page, nesting_depth
from haina.corpus.extract.scan import MAX_DEPTH

__all__ = ["MAX_DEPTH", "ExtractedPage", "extract_page", "nesting_depth"]
