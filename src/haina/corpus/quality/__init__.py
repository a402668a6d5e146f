"""Quality of text: linear models over hashed n-grams, fitted on sets that need no labels."""

from haina.corpus.quality.linear import Batch, FitOptions, fit, fit_batches
from haina.corpus.quality.model import LinearModel
from haina.corpus.quality.scorer import Scorer

__all__ = ["Batch", "FitOptions", "LinearModel", "Scorer", "fit", "fit_batches"]
