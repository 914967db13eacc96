"""Batches of a data set: cell, image, annotation and prompt of each sample are a pure function of (seed, step)."""
