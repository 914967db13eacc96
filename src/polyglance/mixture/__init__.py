"""From shards to batches: which cell, which image, which annotation, which prompt. A pure function of (seed, step)."""
