"""Work of one job, the same code on every place."""
