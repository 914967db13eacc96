# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
# ---

# %% [markdown]
# # Score my captions
# CIDEr, BLEU and more as the field's tools compute them, without Java. This needs `pip install polyglance` alone.

# %%
import json
from pathlib import Path

import polyglance

# %% [markdown]
# Predictions and references in COCO's layouts. Tables, Karpathy's JSON, XM3600's captions and others are read as well.

# %%
captions = {1: "un chien court sur la plage", 2: "deux chats dorment", 3: "une femme lit un livre", 4: "un bus rouge"}
references = {
    1: ["un chien court sur le sable", "un chien sur la plage"],
    2: ["deux chats dorment sur un lit", "des chats endormis"],
    3: ["une femme lit dans un parc", "une femme avec un livre"],
    4: ["un bus rouge dans la rue", "un autobus rouge"],
}
hypotheses = [{"image_id": image, "caption": text} for image, text in captions.items()]
annotations = [{"image_id": image, "caption": text} for image, texts in references.items() for text in texts]
Path("captions.json").write_text(json.dumps(hypotheses), encoding="utf-8")
Path("references.json").write_text(json.dumps({"annotations": annotations}), encoding="utf-8")

# %%
report = polyglance.score(
    Path("captions.json"), [Path("references.json")], polyglance.ScoreConfig(lang="fr", metrics=("cider", "bleu"))
)
for score in report.scores:
    print(score.name, round(score.value, 4), score.interval)
    print("  ", score.signature)
for warning in report.warnings:
    print(warning)
