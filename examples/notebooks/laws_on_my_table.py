# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
# ---

# %% [markdown]
# # Laws on my table
# A table with one row per run becomes a law, a prediction and a plan. This needs `pip install polyglance` alone.

# %%
import random
from pathlib import Path

import polyglance

# %% [markdown]
# The table: parameters, training tokens and the loss at the end. Yours comes from your tracker; here it is made from a
# known law, 1.69 + 406 / N^0.34 + 411 / D^0.28, with 0.5 % of noise.

# %%
random.seed(0)
rows = ["parameters,tokens,loss"]
for parameters in (3e7, 1e8, 3e8, 1e9):
    for tokens in (1e9, 3e9, 1e10, 3e10):
        loss = 1.69 + 406 / parameters**0.34 + 411 / tokens**0.28
        rows.append(f"{parameters:g},{tokens:g},{loss * random.gauss(1, 0.005):.5f}")
Path("runs.csv").write_text("\n".join(rows))

# %% [markdown]
# The fit. `columns` says which column is which letter of the law.

# %%
config = polyglance.FitConfig(form="additive", columns={"N": "parameters", "D": "tokens", "y": "loss"})
law = polyglance.fit_law(config, polyglance.Table.read(Path("runs.csv")))
for name, value in law["all"].parameters.items():
    print(f"{name} = {value:.4g}, 95 %: {law['all'].intervals[name]}")
for warning in law["all"].warnings:
    print(warning.message)

# %% [markdown]
# What it says about a run three times as large as the largest, with an interval for the mean of such runs.

# %%
prediction = polyglance.predict(law, {"N": 3e9, "D": 6e10})["all"]
print(prediction)

# %% [markdown]
# What 10^11 GMAC (10^20 multiply-accumulates) buy: the best size and its tokens, and the loss to expect.

# %%
plan = polyglance.spend_budget(polyglance.PlanConfig(budget=polyglance.Budget(max_gmac=1e11)), law)
print(plan.best)
