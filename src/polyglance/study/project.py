"""Begin a project: look at what data is there, write its files, and say what is missing and what it will cost.

config = ProjectConfig(out=Path("mine"), want=("uk",), images=Path("photos"), bitext=(Path("en-uk.tsv"),))
begin_project(config).commands
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.images import ImagesSource
from polyglance.files import read_json
from polyglance.languages import SOURCE_LANGUAGE, XM3600_LANGUAGES, language
from polyglance.laws import Budget, BudgetPlan, PlanConfig, load_law, spend_budget
from polyglance.laws.paper_laws import PAPER, PAPER_CELLS
from polyglance.records import Drops
from polyglance.report.published_models import PUBLISHED_SIZES, list_published_models
from polyglance.study.project_files import BATCH_SIZE, BitextFile, ProjectFiles, write_project_files

__all__ = ["ProjectConfig", "ProjectStart", "begin_project"]

PUBLISHED_SAMPLES = 10_240_000
"""Samples of the longest published runs of the grid, over seven cells."""
_SAMPLED = 1000
"""Images, and pairs of each bitext, that are looked at."""
_ENGINES = {
    "match": (("clip", "siglip", "siglip2", "metaclip_2", "altclip"), "siglip2-so400m-patch14-384", "google"),
    "recaption": (("florence2", "llava", "llava_next", "llava_onevision"), "llama3-llava-next-8b-hf", "llava-hf"),
    "translate": (("m2m_100",), "nllb-200-3.3B", "facebook"),
}
"""Step of a recipe -> model types of its engine, the folder that is looked for otherwise, and its owner on the hub."""


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """A project: what there is, and what is wanted.

    Raises:
        ValueError: an unknown language, no language, or one that is both given and wanted.
    """

    out: Path
    """Folder of the project."""
    captions: tuple[str, ...] = (SOURCE_LANGUAGE,)
    """Languages that have captions."""
    want: tuple[str, ...]
    """Languages that have none, and are wanted."""
    images: Path | None = None
    """Images, in a form that `data build` reads: a folder, tars, Parquet."""
    bitext: tuple[Path, ...] = ()
    """Sentence pairs with English; the language is in the file's name (en-uk.tsv)."""
    engines: Path = Path("models")
    """Folder of the checkpoints that describe, translate and match."""
    size: str | None = None
    """Published size to train: 0.4b, 1.0b, 3.5b, 11.2b. If not given, the best by the law of the paper for `budget`,
    and without one 3.5b, the smallest whose decoder knows many languages."""
    budget: float | None = None
    """Most money for one run."""
    price_per_gpu_hour: float = 2.5
    """Price of one GPU for one hour; the default is an assumption."""
    currency: str = "USD"
    """Currency of budget and price, as it is printed."""
    gpus: int = 8
    """Number of GPUs."""
    gpu: str = "H100"
    """Kind of GPU; a word of its name."""
    overwrite: bool = False
    """Write over files of the project that are there."""

    def __post_init__(self) -> None:
        for name in ("captions", "want"):
            codes = tuple(language(code).code for code in getattr(self, name))
            if not codes or len(set(codes)) != len(codes):
                raise ValueError(f"{name} needs one or more languages, each once")
            object.__setattr__(self, name, codes)
        both = [code for code in self.want if code in self.captions]
        if both:
            raise ValueError(f"{', '.join(both)}: either in captions or in want, not in both")
        if SOURCE_LANGUAGE in self.want:
            raise ValueError("English is what translations start from: it cannot be wanted without captions")
        if self.size is not None and self.size not in PUBLISHED_SIZES:
            raise ValueError(f"size is {self.size!r}; known: {', '.join(PUBLISHED_SIZES)}")
        for name in ("budget", "price_per_gpu_hour", "gpus"):
            number = getattr(self, name)
            if number is not None and not 0 < number < float("inf"):
                raise ValueError(f"`{name}` is {number:g}; expected a positive number")

    @property
    def translations(self) -> tuple[str, ...]:
        """Languages that are translated into."""
        return tuple(code for code in (*self.captions, *self.want) if code != SOURCE_LANGUAGE)

    @property
    def num_cells(self) -> int:
        return len(self.captions) + len(self.translations)


@dataclass(frozen=True, kw_only=True)
class ProjectStart:
    """Result of `begin_project`: the data found, the files written, the plan."""

    files: tuple[Path, ...]
    found: tuple[str, ...]
    """Data that is there, a line each."""
    missing: tuple[str, ...]
    """Data and checkpoints that are missing, with what to do."""
    size: str
    """Size that study.toml trains."""
    samples: int
    """Samples that its run sees, over all cells."""
    plan: BudgetPlan
    """Loss, score and cost of each published size, by the law of the paper."""
    extrapolated: tuple[str, ...]
    """Reasons why the plan is an extrapolation."""
    commands: tuple[str, ...]
    """The next commands."""


def begin_project(config: ProjectConfig) -> ProjectStart:
    """Look at the data, write recipe.toml, study.toml and run.toml, and plan.

    Raises:
        ValueError: files of the project are there already, data that was named cannot be read, or the budget does not
            buy one batch.
    """
    found: list[str] = []
    missing: list[str] = []
    num_images, has_texts = _look_at_images(config, found, missing)
    bitext = _look_at_bitext(config, found, missing)
    steps = ["match", "translate", *([] if has_texts else ["recaption"])]
    engines = {step: _find_engine(config.engines, step, found, missing) for step in steps}
    plan = _plan(config)
    chosen = next(option for option in plan.options if option.name == _choose_size(config, plan))
    samples = _fill_batches(config, chosen.name, int(chosen.costs["samples"]))
    files = write_project_files(
        ProjectFiles(
            out=config.out,
            captions=config.captions,
            translations=config.translations,
            images=config.images or Path("images"),
            has_texts=has_texts,
            num_images=num_images,
            bitext=bitext,
            engines=engines,
            size=chosen.name,
            samples=samples,
            gpus=config.gpus,
            gpu=config.gpu,
            price=config.price_per_gpu_hour,
            currency=config.currency,
        ),
        overwrite=config.overwrite,
    )
    names = [shlex.quote(str(config.out / name)) for name in ("recipe.toml", "run.toml", "study.toml")]
    return ProjectStart(
        files=files,
        found=tuple(found),
        missing=tuple(missing),
        size=chosen.name,
        samples=samples,
        plan=plan,
        extrapolated=tuple(_explain_extrapolation(config, plan)),
        commands=(
            f"polyglance data build {names[0]}",
            f"polyglance train {names[1]}",
            f"polyglance study plan {names[2]}",
        ),
    )


def _look_at_images(config: ProjectConfig, found: list[str], missing: list[str]) -> tuple[int, bool]:
    """Return the number of images, as near as their form tells, and whether they come with texts."""
    if config.images is None:
        missing.append("images: give --images; any photographs, the more the better (the paper: 10 million of CC12M)")
        return 0, False
    source = ImagesSource(path=config.images, texts="captions")
    drops = Drops()
    form = source.open_form()
    pieces = form.find_pieces(_SAMPLED, drops)
    num_looked = num_texts = 0
    for image in form.read_piece(pieces[0], drops):
        num_looked += 1
        num_texts += bool(image.texts)
        if num_looked == _SAMPLED:
            break
    if not num_looked:
        raise ValueError(f"{config.images}: no image was found in it")
    number = num_looked if len(pieces) == 1 else sum(piece.count or _SAMPLED for piece in pieces)
    about = "" if len(pieces) == 1 else "about "
    has_texts = num_texts == num_looked
    texts = "all" if has_texts else str(num_texts)
    found.append(f"images: {config.images}, {about}{number:,}; {texts} of {num_looked:,} looked at have texts")
    return number, has_texts


def _look_at_bitext(config: ProjectConfig, found: list[str], missing: list[str]) -> tuple[BitextFile, ...]:
    files: dict[Path, str] = {}
    for path in config.bitext:
        code = _language_in_name(path, config.translations)
        stem = path.with_suffix("") if path.suffix[1:] in (SOURCE_LANGUAGE, code) else path
        if not path.exists():
            raise ValueError(f"{path}: no such file")
        files[stem] = code
    result = []
    for path, code in files.items():
        source, drops = BitextSource(path=path, language=code), Drops()
        pieces = source.find_pieces(100_000, drops)
        pairs = 0
        for _ in source.read_piece(pieces[0], drops):
            pairs += 1
            if pairs == _SAMPLED:
                break
        left_out = sum(drops.counts.values())
        more = f", {len(pieces)} parts of 100,000" if len(pieces) > 1 else ""
        enough = "at least " if pairs == _SAMPLED else ""
        found.append(f"{language(code).name}: {path}, {enough}{pairs:,} usable pairs, {left_out:,} left out{more}")
        result.append(BitextFile(path, code))
    for code in config.want:
        if code not in files.values():
            missing.append(
                f"{language(code).name}: no sentence pairs; --bitext en-{code}.tsv (CCMatrix, NLLB, OpenSubtitles: "
                "https://opus.nlpl.eu)"
            )
        if code not in XM3600_LANGUAGES:
            missing.append(f"{language(code).name}: no captions to test with; it is not in Crossmodal-3600")
    return tuple(result)


def _language_in_name(path: Path, codes: Sequence[str]) -> str:
    """Return the language whose code is a word of a file's name.

    Raises:
        ValueError: there is none, or several are.
    """
    words = set(re.split(r"[^a-z]+", path.name.lower()))
    inside = [code for code in codes if code.lower() in words]
    if len(inside) != 1:
        which = f"{', '.join(inside)} are" if inside else f"none of {', '.join(codes)} is"
        raise ValueError(f"{path}: {which} in its name; call it en-{codes[-1]}{path.suffix}, say")
    return inside[0]


def _find_engine(folder: Path, step: str, found: list[str], missing: list[str]) -> tuple[str, Path]:
    """Return the kind and the folder of the checkpoint for a step; the usual one, and a line in `missing`, if none is
    there."""
    types, name, owner = _ENGINES[step]
    for config in sorted(folder.glob("*/config.json")):
        content = read_json(config)
        model_type = content.get("model_type") if isinstance(content, dict) else None
        if model_type in types:
            found.append(f"[{step}]: {config.parent} ({model_type})")
            return _kind_of(str(model_type), step), config.parent
    missing.append(
        f"[{step}]: no checkpoint of {', '.join(types)} in {folder}; for example: "
        f"hf download {owner}/{name} --local-dir {shlex.quote(str(folder / name))}"
    )
    return _kind_of(types[-1], step), folder / name


def _kind_of(model_type: str, step: str) -> str:
    if step == "recaption":
        return "florence2" if model_type == "florence2" else "llava"
    return {"match": "clip", "translate": "nllb"}[step]


def _plan(config: ProjectConfig) -> BudgetPlan:
    """Return what each published size reaches: for the budget, or with the published samples for each cell."""
    budget = Budget(
        max_money=config.budget,
        max_samples=None if config.budget else PUBLISHED_SAMPLES * config.num_cells / PAPER_CELLS,
        price_per_gpu_hour=config.price_per_gpu_hour,
        currency=config.currency,
        gpus=config.gpus,
        gpu=config.gpu,
        cells=config.num_cells,
    )
    models, scores = list_published_models(config.gpu), load_law("paper-cider-prefix")
    question = PlanConfig(group="UC", budget=budget)
    return spend_budget(question, load_law(PAPER), candidates=models, downstream=scores)


def _choose_size(config: ProjectConfig, plan: BudgetPlan) -> str:
    if config.size is not None:
        return config.size
    return plan.chosen or "3.5b" if config.budget else "3.5b"


def _fill_batches(config: ProjectConfig, size: str, samples: int) -> int:
    """Return the samples of the whole batches that the plan pays for.

    Raises:
        ValueError: it pays for less than one.
    """
    if samples < BATCH_SIZE:
        raise ValueError(
            f"`budget` {config.budget:g} buys {samples:,} samples of {size}, less than one batch ({BATCH_SIZE:,}): "
            "give more, or a smaller size"
        )
    return samples // BATCH_SIZE * BATCH_SIZE


def _explain_extrapolation(config: ProjectConfig, plan: BudgetPlan) -> list[str]:
    others = [code for code in config.want if code not in ("fr", "es", "ru", "zh")]
    reasons = []
    if others:
        names = ", ".join(language(code).name for code in others)
        reasons.append(f"{names}: the law was measured in French, Spanish, Russian and Chinese only")
    if config.num_cells != PAPER_CELLS:
        reasons.append(
            f"{config.num_cells} task-language cells in place of {PAPER_CELLS}, with as many samples for each"
        )
    reasons += [note for note in plan.notes if "extrapolates" in note]
    return reasons
