"""Look at a corpus to choose its thresholds: how each signal is spread, and what stands on both sides of a bound."""

from __future__ import annotations

from haina.corpus.look.collect import Look as Look
from haina.corpus.look.collect import Sample as Sample
from haina.corpus.look.collect import Spread as Spread
from haina.corpus.look.collect import collect as collect
from haina.corpus.look.collect import find_document as find_document
from haina.corpus.look.measures import bounds_of as bounds_of
from haina.corpus.look.measures import meanings as meanings
from haina.corpus.look.page import render as render
