# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
# ---

# %% [markdown]
# # A study and its page
# A grid of small models in the built-in world, from data to the report. This needs `pip install 'polyglance[train]'`.
# The grid here is so small that it takes a minute and learns little. `examples/micro.toml` is the one to look at.

# %%
from pathlib import Path

import polyglance

# %% [markdown]
# A study is one file: the data, what is trained in which language, the families of models with their sizes and budgets.

# %%
Path("study.toml").write_text("""
title = "A first study"
out = "study"

[data.world]
num_train_images = 200
num_test_images = 40

[coverage]
caption = ["en"]                        # captions in English alone
translation = ["en", "fr", "zh"]        # translations into French and Chinese, and English again

[mixture]
batch_size = 8

[[families]]
name = "scratch"
widths = [8, 16]
samples = [80, 160]

[evaluation]
samples_per_cell = 16
captions_per_cell = 4
""")
config = polyglance.load_config(polyglance.StudyConfig, "study.toml")

# %% [markdown]
# The plan: sizes, compute and memory of every run, before anything is trained. Then the study; the same call continues
# it after an interruption, and trains only what has changed. Worker processes import a script that calls it, hence the
# condition; a notebook does not need it.

# %%
if __name__ == "__main__":
    for run in polyglance.plan_study(config).runs:
        print(run)
    result = polyglance.run_study(config, say=print)
    print(result.report)
