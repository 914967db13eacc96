"""Fit of a law: rows, solver, uncertainty, held-out errors and warnings."""
