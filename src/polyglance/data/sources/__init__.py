"""Readers of published bitext and images, one record at a time."""
