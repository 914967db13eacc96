"""Runs of the product law, for the tests of this folder."""

import numpy as np

TRUTH = {"b0": 60.0, "b_P": -0.12, "b_S": -0.2, "b_T": 0.4, "eps": 0.8}


def grid(*axes):
    """Return all combinations of the axes, one array per axis."""
    return np.array(np.meshgrid(*axes)).reshape(len(axes), -1)


def product_loss(p, s, t, truth=TRUTH):
    return truth["b0"] * p ** truth["b_P"] * s ** truth["b_S"] * t ** truth["b_T"] + truth["eps"]


def product_runs(p, s, t, noise=0.01, seed=0, truth=TRUTH):
    """Return the columns P, S, T and y, with noise in log y."""
    y = product_loss(p, s, t, truth) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(p)))
    return {"P": p, "S": s, "T": t, "y": y}
