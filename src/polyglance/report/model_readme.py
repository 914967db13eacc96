"""README.md of a trained model: what it does, what it was trained on, what was measured. The Hugging Face hub shows it
as the model's card.

    write_model_readme(Path("out/run/checkpoints/final"), losses=Path("out/losses.json"), licence="cc-by-4.0")
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polyglance.coverage import Cell
from polyglance.files import read_json, write_atomically
from polyglance.languages import LANGUAGES, get_language
from polyglance.laws.law import Law
from polyglance.run_records import CellRecord, LossRecord, Variant
from polyglance.table_text import escape_markdown, format_markdown_line

__all__ = ["write_model_readme"]

_NAME = "README.md"


def write_model_readme(
    folder: Path,
    *,
    run: Path | None = None,
    losses: Path | None = None,
    laws: Sequence[Path] = (),
    licence: str | None = None,
    name: str | None = None,
) -> Path:
    """Write README.md into the folder of a trained model.

    Args:
        folder: the model's folder.
        run: folder of its run, with samples.json; None: the run that contains the model's folder.
        losses: losses.json of `eval loss` or of a study; None: that of the run, if there is one and the model is the
            final one, on which it was measured.
        laws: law files to quote.
        licence: licence of the weights by its name on the hub, such as `apache-2.0`; None: the text says that no
            licence is given.
        name: title; None: the run's name.

    Returns:
        The path of README.md.

    Raises:
        ValueError: not the folder of a model, a README.md from elsewhere, or a record that is missing or damaged.
    """
    run = run or _run_of(folder)
    if losses is None and folder.resolve().name == "final" and (run / "losses.json").exists():
        losses = run / "losses.json"
    samples = {Cell.parse(cell): count for cell, count in _read_samples(run / "samples.json").items()}
    cells = LossRecord.read(losses).cells if losses is not None else {}
    lines = [
        *_front_matter(samples, licence),
        _MARK,
        "",
        f"# {escape_markdown(name or run.name)}",
        "",
        *_describe_use(folder, samples),
        *_describe_training(samples),
        *_describe_losses(cells),
        *(line for path in laws for line in _describe_law(path)),
        *_describe_licence(licence),
    ]
    path = folder / _NAME
    if path.exists() and _MARK not in path.read_text(encoding="utf-8"):
        raise ValueError(f"{path}: not written by this command; move it away first")
    write_atomically(path, "\n".join(lines) + "\n")
    return path


_MARK = "<!-- written by `polyglance model readme`; a text without this line is not overwritten -->"


def _run_of(folder: Path) -> Path:
    """Return the folder of the run that a model lies in."""
    run = folder.resolve().parent.parent
    if not (run / "samples.json").exists():
        raise ValueError(f"{folder}: not in a run's folder (no {run / 'samples.json'}); name the run with --run")
    return run


def _read_samples(path: Path) -> Mapping[str, int]:
    values = read_json(path)
    if not isinstance(values, dict) or not all(type(count) is int for count in values.values()):
        raise ValueError(f"{path}: not the number of samples of each cell")
    return values


def _front_matter(samples: Mapping[Cell, int], licence: str | None) -> Iterator[str]:
    """Yield the lines that the hub reads (YAML)."""
    yield "---"
    yield "library_name: transformers"
    yield "pipeline_tag: image-text-to-text"
    yield "tags: [polyglance, image-captioning, multilingual]"
    yield f"language: [{', '.join(_quote(code) for code in _languages(samples))}]"
    if licence is not None:
        yield f"license: {_quote(licence)}"
    yield "---"


def _quote(text: str) -> str:
    """Return a YAML string: the code `no` alone would be read as false."""
    return json.dumps(text, ensure_ascii=False)  # a string of JSON is one of YAML


def _languages(samples: Mapping[Cell, int]) -> list[str]:
    """Return all languages with samples: those with captions first."""
    codes = [cell.language for task in ("caption", "translation") for cell in samples if cell.task == task]
    return list(dict.fromkeys(codes))


def _describe_use(folder: Path, samples: Mapping[Cell, int]) -> Iterator[str]:
    captioned = [cell.language for cell in samples if cell.task == "caption"]
    others = [code for code in _languages(samples) if code not in captioned]
    yield f"A model of {_count_parameters(folder):,} parameters that captions images. It was trained on captions in"
    yield f"{_name_all(captioned)} and on translations; on translations alone in {_name_all(others)}."
    example = ",".join((*captioned[:1], *others[:2]))
    yield from (
        "",
        "```",
        'pip install "polyglance[train]"',
        f"polyglance caption photo.jpg --model . --lang {example}",
    )
    yield from ("```", "")


def _name_all(codes: Sequence[str]) -> str:
    return ", ".join(get_language(code).name if code in LANGUAGES else code for code in codes) or "none"


def _count_parameters(folder: Path) -> int:
    from polyglance.model.components import count_parameters
    from polyglance.model.configuration import load_config
    from polyglance.model.flops import build_on_meta

    return count_parameters(build_on_meta(load_config(folder), str(folder)))


def _describe_training(samples: Mapping[Cell, int]) -> Iterator[str]:
    yield from ("## Training", "", f"{sum(samples.values()):,} samples, each read as often as it counts here:", "")
    yield from _make_table(
        ("language", "captions", "translations into it"),
        (
            (code, *(f"{samples.get(Cell(task, code), 0):,}" for task in ("caption", "translation")))
            for code in _languages(samples)
        ),
    )


def _describe_losses(cells: Mapping[Cell, CellRecord]) -> Iterator[str]:
    if not cells:
        return
    yield from ("## Measured", "")
    yield "Mean cross-entropy on held-out samples, nats per token. UC: captions in languages that had none in training."
    yield from ("SC: captions in those that had. ST: translations. The last column: given another sample's image.", "")
    yield from _make_table(
        ("cell", "split", "loss", "after the prefix", "with another image"),
        (
            (str(cell), record.split or "-", *(_round(record.loss(variant)) for variant in _SHOWN))
            for cell, record in cells.items()
        ),
    )


_SHOWN: tuple[Variant, ...] = ("plain", "prefix", "shuffled")


def _round(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.3f}"


def _describe_law(path: Path) -> Iterator[str]:
    law = Law.load(path)
    yield from (f"## Law of {escape_markdown(law.columns.get('y', path.stem))}", "")
    for group, fit in law.fits.items():
        named = f"{escape_markdown(group)}: {escape_markdown(fit.form.formula)}"
        yield f"{named}, {fit.num_rows} runs, R^2 of log y {fit.r2_log:.3f}"
        yield ""
        yield from _make_table(
            ("parameter", "value", f"{fit.confidence:.0%} interval"),
            (
                (
                    name,
                    f"{value:.4g}",
                    "{:.4g} to {:.4g}".format(*fit.intervals[name]) if name in fit.intervals else "-",
                )
                for name, value in fit.parameters.items()
                if name not in fit.unidentified
            ),
        )


def _describe_licence(licence: str | None) -> Iterator[str]:
    given = f"Weights: {escape_markdown(licence)}." if licence is not None else "No licence of the weights is given."
    yield from (
        "## Licence",
        "",
        f"{given} Those of the data and of the models that it was started from apply too.",
        "",
    )
    yield "Trained with polyglance, whose code is Apache-2.0."


def _make_table(titles: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield format_markdown_line(titles)
    yield format_markdown_line(["---"] * len(titles))
    yield from (format_markdown_line([escape_markdown(text) for text in row]) for row in rows)
    yield ""
