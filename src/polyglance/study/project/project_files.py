"""The files of a new project: recipe, trial run, micro study and study, as TOML with comments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from polyglance.config import load, to_dict
from polyglance.data.build.recipe import Recipe
from polyglance.files import write_atomically
from polyglance.languages import SOURCE_LANGUAGE, find_declared_languages, get_language
from polyglance.study.config import StudyConfig
from polyglance.study.project.project_images import FoundImages
from polyglance.train.config import RunConfig

__all__ = ["BATCH_SIZE", "BitextFile", "ProjectFiles", "write_project_files"]

BATCH_SIZE = 1024
"""Samples of an optimiser step of the real run, as in examples/paper.toml."""

_TRIAL_SAMPLES = 10_000
_MATCHED_BY_WORDS = """\
# A sentence is matched only to images whose English captions share a word with it that carries content (not "the" or
# "of"). An image without an English text gets no sentence. A checkpoint of CLIP looks at the images."""


class BitextFile(NamedTuple):
    """Sentence pairs of English and another language."""

    path: Path
    language: str


@dataclass(frozen=True, kw_only=True)
class ProjectFiles:
    """Content of the files of a project."""

    out: Path
    captions: Sequence[str]
    want: Sequence[str]
    """Languages without captions for training."""
    translations: Sequence[str]
    """Languages that are translated into."""
    images: Path
    found: FoundImages
    bitext: Sequence[BitextFile]
    engines: Mapping[str, tuple[str, Path | None]]
    """Step of the recipe -> kind of its engine, and folder of its checkpoint if it has one."""
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

    @property
    def wanted(self) -> str:
        """Names of the wanted languages."""
        return ", ".join(get_language(code).name for code in self.want)


def write_project_files(project: ProjectFiles, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write recipe.toml, run.toml, micro.toml and study.toml, each of them read again to be sure.

    Raises:
        ValueError: one of them exists already.
    """
    texts: dict[str, tuple[str, type[Any]]] = {
        "recipe.toml": (_write_recipe(project), Recipe),
        "run.toml": (_write_run(project), RunConfig),
        "micro.toml": (_write_micro_study(project), StudyConfig),
        "study.toml": (_write_study(project), StudyConfig),
    }
    paths = [project.out / name for name in texts]
    if (there := [path for path in paths if path.exists()]) and not overwrite:
        raise ValueError(f"{there[0]} already exists; choose another folder, or give --overwrite")
    for path, (text, kind) in zip(paths, texts.values(), strict=True):
        write_atomically(path, text + _write_own_languages(project))
        load(kind, path)
    return tuple(paths)


def _quote(value: object) -> str:
    """Return a TOML string or list of strings."""
    return json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)


def _write_own_languages(project: ProjectFiles) -> str:
    """Return the tables of languages that polyglance does not know by itself, each with what was given for it."""
    tables = []
    for code, own in (find_declared_languages([*project.captions, *project.want]) or {}).items():
        values = "".join(f"{name} = {_quote(value)}\n" for name, value in to_dict(own).items() if value)
        tables.append(f"\n[languages.{code}]\n{values}")
    return "".join(tables)


def _write_coverage(project: ProjectFiles) -> str:
    return f"""# What is trained. Captions in {project.wanted} are not: they are to emerge from the translations.
[coverage]
caption = {_quote(list(project.captions))}
translation = {_quote(list(project.translations))}
"""


def _write_recipe(project: ProjectFiles) -> str:
    parts = [_write_sources(project)]
    if "recaption" in project.engines:
        parts.append(f"""
# The images come without captions: each is described in English.
[recaption]
style = "paragraph"
engine = {_write_engine(project.engines["recaption"])}
""")
    if "translate" in project.engines:
        others = [code for code in (*project.captions, *project.want) if code != project.text_language]
        parts.append(f"""
# Captions in the other languages are translated from the English ones. Those in {project.wanted} are never trained: the
# coverage of run.toml, micro.toml and study.toml leaves them out. They are what the model is measured with. Without a
# translator put captions of your own in every language (a.{project.want[0]}.txt) beside some images, and begin again.
[translate]
languages = {_quote(others)}
engine = {_write_engine(project.engines["translate"])}
""")
    if "match" in project.engines and project.bitext:
        by_words = project.engines["match"][0] == "words"
        parts.append(f"""
{_MATCHED_BY_WORDS if by_words else "# Sentences are matched to the images that show what they say."}
[match]
engine = {_write_engine(project.engines["match"])}
[match.align]
top_n = 2                               # of each language
""")
    return "".join([*parts, _write_output(project)])


def _write_sources(project: ProjectFiles) -> str:
    folder = _quote(project.out / "data")
    beside = "the text files beside the images: a.txt, a.de.txt"
    texts = f"""
texts = "captions"                      # {beside}
text_language = {_quote(project.text_language)}                    # that of a.txt"""
    near = """
[duplicates]                            # drawings are alike; only the same picture is left out
near = { max_distance = 0, max_colour_difference = 1.0 }
"""
    parts = [
        f"""# Images, captions and sentence pairs become one data set.
# polyglance data build {project.out / "recipe.toml"}
out = {folder}

[[images]]
path = {_quote(project.images)}{texts if project.found.captions else ""}
{near if project.found.are_drawings else ""}"""
    ]
    for path, code in project.bitext:
        parts.append(f"""
[[bitext]]                              # English and {get_language(code).name}
path = {_quote(path)}
language = {_quote(code)}
""")
    covered = {one.language for one in project.bitext}
    parts += [
        f"""
# [[bitext]]                            # missing: English and {get_language(code).name}
# path = "en-{code}.tsv"
# language = "{code}"
"""
        for code in project.want
        if code not in covered
    ]
    return "".join(parts)


def _write_output(project: ProjectFiles) -> str:
    described = [code for code in project.want if project.found.has_captions_in(code)]
    held_out = f"""# Images with captions of your own in these languages are for measuring, not for training.
captioned_in = {_quote(described)}
"""
    which = "other images" if described else "images"
    test_fraction = 0.0 if "translate" not in project.engines else 0.2 if project.found.number < 1000 else 0.02
    return f"""
[annotate]
captions = {_quote([*project.captions, *project.want])}

[output]
test_fraction = {test_fraction}                     # share of the {which} that is held out
{held_out if described else ""}"""


def _write_engine(engine: tuple[str, Path | None]) -> str:
    kind, path = engine
    return f"{{ kind = {_quote(kind)}{f', path = {_quote(path)}' if path is not None else ''} }}"


def _write_run(project: ProjectFiles) -> str:
    without = [code for code in project.want if not get_language(code).prefix]
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


def _write_micro_study(project: ProjectFiles) -> str:
    return f"""# Micro models of three budgets on your own data, minutes on a CPU: a page that shows how captions in the
# wanted languages emerge, with laws. They learn drawings and short sentences; photographs need the sizes of study.toml.
# polyglance study run {project.out / "micro.toml"}
title = {_quote(f"Captions in {project.wanted}, micro models")}
out = {_quote(project.out / "micro")}

[data]
path = {_quote(project.out / "data")}

{_write_coverage(project)}
[mixture]
batch_size = 16

# Half of the words of some source sentences are hidden, so that the image has to be used.
[mixture.source_masking]
samples = 0.4

[tower]                                 # the eyes: trained once, on captions, and shared
width = 96
blocks = 1
samples = 40_000
language = {_quote(project.text_language)}
optim.lr = 2e-3

# The budgets of one size branch off one run. The best learning rate falls with the width.
[[families]]
name = "micro"
widths = [48, 96]
samples = [5_000, 10_000, 20_000]
schedule = "trunk"
tower = true
lr_width = 64
optim = {{ lr = 3e-3, warmup_steps = 15, cooldown_share = 0.2 }}
"""


def _write_study(project: ProjectFiles) -> str:
    return f"""# The real run, of a published size. The plan of it needs neither data nor checkpoint.
# polyglance study plan {project.out / "study.toml"}
title = {_quote(f"Captions in {project.wanted}")}
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
