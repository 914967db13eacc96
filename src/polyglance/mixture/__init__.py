"""From data sets to batches: cell, image, annotation and prompt of each sample, as a pure function of (seed, step)."""
