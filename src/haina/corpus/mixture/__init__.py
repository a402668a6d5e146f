"""Data mixtures learned from small proxy runs: `fit_mixture(options)` and what it is made of."""
