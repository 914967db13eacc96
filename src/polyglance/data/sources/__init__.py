"""Readers of what others have: bitext and images in the forms in which they are published, one record at a time."""
