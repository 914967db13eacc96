"""Measuring models: losses and captions per cell, predictions for benchmarks, scores of texts."""
