"""Begin a project: examine the data, write the project's files, and list what is missing and the expected costs.

config = ProjectConfig(out=Path("mine"), want=("uk",), images=Path("photos"), bitext=(Path("en-uk.tsv"),))
begin_project(config).commands
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.data.sources.bitext import BitextSource
from polyglance.files import check_output_folder, read_json
from polyglance.language_tags import find_codes, parse_language_tag
from polyglance.languages import SOURCE_LANGUAGE, XM3600_LANGUAGES, get_language
from polyglance.laws import Budget, BudgetPlan, PlanConfig, load_law, spend_budget
from polyglance.laws.constants.paper_laws import PAPER, PAPER_CELLS
from polyglance.records import Drops
from polyglance.report.published_models import PUBLISHED_SIZES, list_published_models
from polyglance.study.project.project_files import BATCH_SIZE, BitextFile, ProjectFiles, write_project_files
from polyglance.study.project.project_images import SAMPLED, FoundImages, look_at_images

__all__ = ["ProjectConfig", "ProjectStart", "begin_project"]

_PUBLISHED_SAMPLES = 10_240_000
"""Samples of the longest runs of the published grid, over seven cells."""
_ENGINES = {
    "match": (("clip", "siglip", "siglip2", "metaclip_2", "altclip"), "siglip2-so400m-patch14-384", "google"),
    "recaption": (("florence2", "llava", "llava_next", "llava_onevision"), "llama3-llava-next-8b-hf", "llava-hf"),
    "translate": (("m2m_100",), "nllb-200-3.3B", "facebook"),
}
"""Step of a recipe -> model types of its engine, the usual checkpoint's name, and its owner on the hub."""


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """A project: the available data, and the wanted languages.

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
            codes = find_codes(getattr(self, name))
            if not codes or len(set(codes)) != len(codes):
                raise ValueError(f"{name} needs one or more languages, each once")
            object.__setattr__(self, name, codes)
        both = [code for code in self.want if code in self.captions]
        if both:
            raise ValueError(f"{', '.join(both)}: given in captions and in want; give it in one of them")
        if SOURCE_LANGUAGE in self.want:
            raise ValueError("English is the source of translations, so it cannot be in want; put it into captions")
        if self.size is not None and self.size not in PUBLISHED_SIZES:
            raise ValueError(f"size is {self.size!r}; known: {', '.join(PUBLISHED_SIZES)}")
        for name in ("budget", "price_per_gpu_hour", "gpus"):
            number = getattr(self, name)
            if number is not None and not 0 < number < float("inf"):
                raise ValueError(f"`{name}` is {number:g}; expected a positive number")
        if BATCH_SIZE % self.gpus:
            raise ValueError(
                f"`gpus` is {self.gpus}, which does not divide the batch of {BATCH_SIZE:,} samples that studies of "
                "published sizes train with; give 1, 2, 4, 8, 16, ..."
            )


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
    """Look at the data, write recipe.toml, run.toml, micro.toml and study.toml, and plan.

    Raises:
        ValueError: files of the project exist already, data that was named cannot be read, every image has captions in
            a wanted language, or the budget does not buy one batch.
    """
    check_output_folder(config.out, "`out`")
    found: list[str] = []
    missing: list[str] = []
    images = look_at_images(config.images, config.captions, config.want, found, missing)
    if config.images is not None and not images.num_for_training:
        told = [code for code in config.want if images.has_captions_in(code)]
        languages = " or ".join(get_language(code).name for code in told)
        raise ValueError(
            f"{config.images}: every image has captions in {languages}, so none is left for training; "
            f"give {told[0]} among the languages with captions, or captions in it for fewer images"
        )
    bitext = _look_at_bitext(config, images, found, missing)
    engines = _choose_engines(config, images, found, missing)
    others = [code for code in config.captions if code != SOURCE_LANGUAGE]
    if "translate" not in engines:
        others = [code for code in others if any(code == file.language for file in bitext)]
    translations = (*others, *config.want)
    plan = _plan(config, len(config.captions) + len(translations))
    chosen = next(option for option in plan.options if option.name == _choose_size(config, plan))
    samples = _fill_batches(config, chosen.name, int(chosen.costs["samples"]))
    files = write_project_files(
        ProjectFiles(
            out=config.out,
            captions=config.captions,
            want=config.want,
            translations=translations,
            images=config.images or Path("images"),
            found=images,
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
    names = {path.stem: shlex.quote(str(path)) for path in files}
    return ProjectStart(
        files=files,
        found=tuple(found),
        missing=tuple(missing),
        size=chosen.name,
        samples=samples,
        plan=plan,
        extrapolated=tuple(_explain_extrapolation(config, plan, len(config.captions) + len(translations))),
        commands=(
            f"polyglance data build {names['recipe']}",
            f"polyglance train {names['run']}",
            f"polyglance study run {names['micro']}",
            f"polyglance study plan {names['study']}",
        ),
    )


def _choose_engines(
    config: ProjectConfig, images: FoundImages, found: list[str], missing: list[str]
) -> dict[str, tuple[str, Path | None]]:
    """Return the engines that the recipe needs: step -> kind, and folder of the checkpoint."""
    engines: dict[str, tuple[str, Path | None]] = {}
    if (path := _find_checkpoint(config.engines, "match", found)) is None and images.are_captioned_in(SOURCE_LANGUAGE):
        engines["match"] = ("words", None)
        found.append(
            f"[match]: by the words of the English captions; a checkpoint in {config.engines} matches sentences to "
            f"what images show: {_describe_download(config.engines, 'match')}"
        )
    else:
        engines["match"] = _name_engine(config.engines, "match", path, missing)
    untold = [code for code in config.captions if not images.are_captioned_in(code) and code != SOURCE_LANGUAGE]
    untold += [code for code in config.want if not images.has_captions_in(code)]
    if untold:
        path = _find_checkpoint(config.engines, "translate", found)
        engines["translate"] = _name_engine(config.engines, "translate", path, missing)
        if path is None:
            missing[-1] += f"; or put captions of your own beside the images ({_describe_own(config, images, untold)})"
    else:
        told = [code for code in (*config.captions, *config.want) if code != SOURCE_LANGUAGE]
        counts = ", ".join(f"{get_language(code).name} {images.captions[code]:,}" for code in told)
        found.append(f"[translate]: not needed; of {images.number:,} images have captions of their own: {counts}")
    if not images.text_language:
        path = _find_checkpoint(config.engines, "recaption", found)
        engines["recaption"] = _name_engine(config.engines, "recaption", path, missing)
    return engines


def _describe_own(config: ProjectConfig, images: FoundImages, codes: Sequence[str]) -> str:
    """Say how many images each language needs captions for, and how many have one."""
    return ", ".join(
        f"a.{code}.txt for {'nearly all' if code in config.captions else 'some'}: "
        f"{images.captions.get(code, 0):,} of {images.number:,} have one"
        for code in codes
    )


def _look_at_bitext(
    config: ProjectConfig, images: FoundImages, found: list[str], missing: list[str]
) -> tuple[BitextFile, ...]:
    files: dict[Path, str] = {}
    for path in config.bitext:
        code = _language_in_name(path, [code for code in (*config.captions, *config.want) if code != SOURCE_LANGUAGE])
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
            if pairs == SAMPLED:
                break
        left_out = sum(drops.counts.values())
        more = f", {len(pieces)} parts of 100,000" if len(pieces) > 1 else ""
        enough = "at least " if pairs == SAMPLED else ""
        found.append(f"{get_language(code).name}: {path}, {enough}{pairs:,} usable pairs, {left_out:,} left out{more}")
        result.append(BitextFile(path, code))
    for code in config.want:
        if code not in files.values():
            missing.append(
                f"{get_language(code).name}: no sentence pairs; --bitext en-{code}.tsv (CCMatrix, NLLB, OpenSubtitles: "
                "https://opus.nlpl.eu)"
            )
        if code not in XM3600_LANGUAGES and not images.has_captions_in(code):
            missing.append(f"{get_language(code).name}: no captions to test with; it is not in Crossmodal-3600")
    return tuple(result)


def _language_in_name(path: Path, codes: Sequence[str]) -> str:
    """Return the language whose code is a word of a file's name.

    Raises:
        ValueError: there is none, or several are.
    """
    words = set(re.split(r"[^a-z]+", path.name.lower()))
    inside = [code for code in codes if code in words]
    if not inside:  # ukr_Cyrl, as NLLB's files are named
        tags = [tag for word in words if len(word) == 3 and (tag := parse_language_tag(word)) is not None]
        inside = [code for code in codes if any(tag.language == code for tag in tags)]
    if len(inside) != 1:
        which = f"{', '.join(inside)} are" if inside else f"none of {', '.join(codes)} is"
        raise ValueError(f"{path}: {which} in its name; call it en-{codes[-1]}{path.suffix}, say")
    return inside[0]


def _find_checkpoint(folder: Path, step: str, found: list[str]) -> Path | None:
    """Return the folder of a checkpoint that a step can use; None if there is none."""
    for config in sorted(folder.glob("*/config.json")):
        if (model_type := _read_model_type(config)) in _ENGINES[step][0]:
            found.append(f"[{step}]: {config.parent} ({model_type})")
            return config.parent
    return None


def _read_model_type(config: Path) -> str:
    content = read_json(config)
    return str(content.get("model_type")) if isinstance(content, dict) else ""


def _name_engine(folder: Path, step: str, path: Path | None, missing: list[str]) -> tuple[str, Path]:
    """Return kind and folder of the checkpoint for a step; the usual one, and a line in `missing`, if none is there."""
    types, name, _ = _ENGINES[step]
    if path is not None:
        return _kind_of(_read_model_type(path / "config.json"), step), path
    example = _describe_download(folder, step)
    missing.append(f"[{step}]: no checkpoint of {', '.join(types)} in {folder}; for example: {example}")
    return _kind_of(types[-1], step), folder / name


def _describe_download(folder: Path, step: str) -> str:
    _, name, owner = _ENGINES[step]
    return f"hf download {owner}/{name} --local-dir {shlex.quote(str(folder / name))}"


def _kind_of(model_type: str, step: str) -> str:
    if step == "recaption":
        return "florence2" if model_type == "florence2" else "llava"
    return {"match": "clip", "translate": "nllb"}[step]


def _plan(config: ProjectConfig, num_cells: int) -> BudgetPlan:
    """Return what each published size reaches: for the budget, or with the published samples for each cell."""
    budget = Budget(
        max_money=config.budget,
        max_samples=None if config.budget else _PUBLISHED_SAMPLES * num_cells / PAPER_CELLS,
        price_per_gpu_hour=config.price_per_gpu_hour,
        currency=config.currency,
        gpus=config.gpus,
        gpu=config.gpu,
        cells=num_cells,
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


def _explain_extrapolation(config: ProjectConfig, plan: BudgetPlan, num_cells: int) -> list[str]:
    others = [code for code in config.want if code not in ("fr", "es", "ru", "zh")]
    reasons = []
    if others:
        names = ", ".join(get_language(code).name for code in others)
        reasons.append(f"{names}: the law was measured in French, Spanish, Russian and Chinese only")
    if num_cells != PAPER_CELLS:
        reasons.append(f"{num_cells} task-language cells in place of {PAPER_CELLS}, with as many samples for each")
    reasons += [note for note in plan.notes if "extrapolates" in note]
    return reasons
