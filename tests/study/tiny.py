"""The smallest study with every part: two families, three starting points, a shared tower."""

from pathlib import Path

TOML = """
title = "tiny"
out = "{out}"
save_every_steps = 3

[data.world]
num_train_images = 120
num_test_images = 40

[coverage]
caption = ["en"]
translation = ["en", "fr", "zh"]

[mixture]
batch_size = 8

[[families]]
name = "scratch"
widths = [8, 16]
samples = [32, 80]

[[families]]
name = "frozen"
decoder = "gemma2"
widths = [16]
samples = [80]
starts = ["all", "en"]
tower = true

[language_models.all]
languages = {{ en = 1, fr = 1, zh = 1 }}
steps = 6

[language_models.en]
languages = {{ en = 1 }}
steps = 6

[tower]
width = 16
blocks = 1
samples = 40

[evaluation]
samples_per_cell = 8
captions_per_cell = 4
examples = 2
max_new_tokens = 4

[laws]
targets = ["UC_prefix"]
bootstrap = 20
"""


def write_tiny_study(folder: Path) -> Path:
    """Write study.toml into `folder`; its study goes to `folder`/out."""
    path = folder / "tiny.toml"
    path.write_text(TOML.format(out=folder / "out"))
    return path
