"""The files of a new project: recipe, trial run and study, as TOML with comments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from polyglance.config import load
from polyglance.data.build.recipe import Recipe
from polyglance.files import write_atomically
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.study.config import StudyConfig
from polyglance.train.config import RunConfig

__all__ = ["BATCH_SIZE", "BitextFile", "ProjectFiles", "write_project_files"]

BATCH_SIZE = 1024
"""Samples of an optimiser step of the real run, as in examples/paper.toml."""

_TRIAL_SAMPLES = 10_000


class BitextFile(NamedTuple):
    """Sentence pairs of English and another language."""

    path: Path
    language: str


@dataclass(frozen=True, kw_only=True)
class ProjectFiles:
    """Content of the files of a project."""

    out: Path
    captions: Sequence[str]
    translations: Sequence[str]
    images: Path
    has_texts: bool
    """Whether the images come with captions."""
    num_images: int
    bitext: Sequence[BitextFile]
    engines: Mapping[str, tuple[str, Path]]
    """Step of the recipe -> kind and folder of its engine."""
    size: str
    samples: int
    gpus: int
    gpu: str
    price: float
    currency: str

    @property
    def text_language(self) -> str:
        """Language of the texts beside the images."""
        return SOURCE_LANGUAGE if SOURCE_LANGUAGE in self.captions else self.captions[0]


def write_project_files(project: ProjectFiles, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write recipe.toml, run.toml and study.toml, each of them read again to be sure.

    Raises:
        ValueError: one of them is there already.
    """
    texts: dict[str, tuple[str, type[Any]]] = {
        "recipe.toml": (_write_recipe(project), Recipe),
        "run.toml": (_write_run(project), RunConfig),
        "study.toml": (_write_study(project), StudyConfig),
    }
    paths = [project.out / name for name in texts]
    if (there := [path for path in paths if path.exists()]) and not overwrite:
        raise ValueError(f"{there[0]} is there already; another folder, or --overwrite")
    for path, (text, kind) in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
        load(kind, path)
    return tuple(paths)


def _quote(value: object) -> str:
    """Return a TOML string or list of strings."""
    return json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)


def _write_coverage(project: ProjectFiles) -> str:
    unseen = ", ".join(language(code).name for code in project.translations if code not in project.captions)
    return f"""# What is trained. Captions in {unseen} are not: they are to emerge from the translations.
[coverage]
caption = {_quote(list(project.captions))}
translation = {_quote(list(project.translations))}
"""


def _write_recipe(project: ProjectFiles) -> str:
    folder = _quote(project.out / "data")
    test_fraction = 0.2 if project.num_images < 1000 else 0.02
    texts = f"""
texts = "captions"                      # the text files beside the images
text_language = {_quote(project.text_language)}"""
    parts = [
        f"""# Images, captions and sentence pairs become one data set.
# polyglance data build {project.out / "recipe.toml"}
out = {folder}

[[images]]
path = {_quote(project.images)}{texts if project.has_texts else ""}
"""
    ]
    wanting = [code for code in project.translations if code not in project.captions]
    for path, code in project.bitext:
        parts.append(f"""
[[bitext]]                              # English and {language(code).name}
path = {_quote(path)}
language = {_quote(code)}
""")
    covered = {one.language for one in project.bitext}
    parts += [
        f"""
# [[bitext]]                            # missing: English and {language(code).name}
# path = "en-{code}.tsv"
# language = "{code}"
"""
        for code in wanting
        if code not in covered
    ]
    if "recaption" in project.engines:
        parts.append(f"""
# The images come without captions: each is described in English.
[recaption]
style = "paragraph"
engine = {_write_engine(project.engines["recaption"])}
""")
    others = [code for code in (*project.captions, *wanting) if code != project.text_language]
    measured = ", ".join(language(code).name for code in wanting)
    parts.append(f"""
# Captions in the other languages are translated from the English ones. Those in {measured} are never trained: the
# coverage of run.toml and study.toml leaves them out. They are what the model is measured with. Without a translator
# take this table away, the wanted languages from annotate.captions, and `test` from run.toml; then nothing is measured.
[translate]
languages = {_quote(others)}
engine = {_write_engine(project.engines["translate"])}
""")
    if "match" in project.engines and project.bitext:
        parts.append(f"""
# Sentences are matched to the images that show what they say.
[match]
engine = {_write_engine(project.engines["match"])}
[match.align]
top_n = 2                               # of each language
""")
    parts.append(f"""
[annotate]
captions = {_quote([*project.captions, *wanting])}

[output]
test_fraction = {test_fraction}                     # share of the images that is held out
""")
    return "".join(parts)


def _write_engine(engine: tuple[str, Path]) -> str:
    kind, path = engine
    return f"{{ kind = {_quote(kind)}, path = {_quote(path)} }}"


def _write_run(project: ProjectFiles) -> str:
    without = [code for code in project.translations if code not in project.captions and not language(code).prefix]
    prefixes = "".join(f'# {code} = "..."\n' for code in without)
    note = (
        f"\n# First words of a caption, by which a decoder stays in the language:\n# [evaluation.prefixes]\n{prefixes}"
    )
    return f"""# A trial on your own data: a micro model, minutes on a CPU. It shows that data and languages are right.
# polyglance train {project.out / "run.toml"}
data = {_quote(project.out / "data" / "train")}
test = {_quote(project.out / "data" / "test")}
out = {_quote(project.out / "trial")}
num_samples = {_TRIAL_SAMPLES:_}

{_write_coverage(project)}
[start.model]                           # random weights; the tokenizer is trained on the data's texts
width = 64

[optim]
lr = 2.5e-3
{note if without else ""}"""


def _write_study(project: ProjectFiles) -> str:
    wanted = ", ".join(language(code).name for code in project.translations if code not in project.captions)
    return f"""# The real run, of a published size. The plan of it needs neither data nor checkpoint.
# polyglance study plan {project.out / "study.toml"}
title = {_quote(f"Captions in {wanted}")}
out = {_quote(project.out / "study")}
image_size = 224
save_every_steps = 500

[data]
path = {_quote(project.out / "data")}

{_write_coverage(project)}
[mixture]
batch_size = {BATCH_SIZE}
balance = "cell"
max_source_tokens = 128
max_target_tokens = 128

[[families]]
name = "published"
sizes = [{_quote(project.size)}]
checkpoint = "initial/{{size}}"           # made by `polyglance model assemble`
samples = [{project.samples:_}]
optim = {{ lr = 1e-4, warmup_steps = 100, weight_decay = 0.01, beta2 = 0.999, clip_norm = 1.0, decay = "published" }}

[engine]
precision = "bf16"

[machine]
name = {_quote(f"{project.gpus} x {project.gpu}")}
card = {_quote(project.gpu)}
devices = {project.gpus}
price_per_gpu_hour = {project.price}
currency = {_quote(project.currency)}
"""
