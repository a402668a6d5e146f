"""Which documents say the same: from text to one representative per group of near-duplicates."""
