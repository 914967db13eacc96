"""Equations of laws: what columns count, the terms of a law, transforms of scores."""
