"""Writes a study folder as `study run` leaves one, with losses that follow a known law plus noise."""

import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardWriter
from polyglance.files import write_json
from polyglance.languages import LANGUAGES
from polyglance.laws import FitConfig, Table, fit_law
from polyglance.records import ImageRecord, annotations_from_texts
from polyglance.run_records import (
    VARIANTS,
    CaptionScores,
    CellLoss,
    CellRecord,
    GeneratedCaption,
    LossRecord,
    RunRow,
    write_captions,
    write_runs,
)

__all__ = ["COVERAGE", "grid", "write_csv", "write_laws", "write_study"]

COVERAGE = Coverage(caption=("en", "de"), translation=("en", "de", "fr", "es", "ru", "zh"))
SIZES = {"d32": 78_512, "d48": 166_920, "d64": 288_096, "d96": 628_752}
FROZEN_SIZES = {"d48": 349_874, "d96": 777_266}
STARTS = {"six": 0.91, "mostly-en": 1.51, "en": 6.48}
TEXTS = {
    "en": "The image shows a red circle to the left of a blue square.",
    "de": "Das Bild zeigt einen roten Kreis links von einem blauen Quadrat.",
    "fr": "La photo montre un cercle rouge à gauche d'un carré bleu.",
    "es": "La imagen muestra un círculo rojo a la izquierda de un cuadrado azul.",
    "ru": "На картинке изображен красный круг слева от синего квадрата.",
    "zh": "图为一个红色的圆形在一个蓝色的正方形的左边。",
}
COLOURS = ("red", "blue", "green", "orange", "purple", "black")


def grid(*, seeds: int = 2, sizes: Mapping[str, int] = SIZES, frozen: bool = True) -> list[dict[str, Any]]:
    """Return the rows of runs.csv of a micro study, as keyword arguments of `RunRow`."""
    rows = [
        _row("scratch", size, "random", samples, seed, num_parameters, 5.12)
        for size, num_parameters in sizes.items()
        for samples in (10_000, 20_000, 40_000)
        for seed in range(seeds)
    ]
    if frozen:
        rows += [
            _row("frozen", size, start, samples, seed, num_parameters, t * (1 + 0.02 * (size == "d96")))
            for size, num_parameters in FROZEN_SIZES.items()
            for start, t in STARTS.items()
            for samples in (10_000, 40_000)
            for seed in range(seeds)
        ]
    return rows


def _row(family: str, size: str, start: str, samples: int, seed: int, num_parameters: int, t: float) -> dict[str, Any]:
    rng = np.random.default_rng([seed, num_parameters, samples, int(100 * t)])
    noise = np.exp(rng.normal(0, 0.05, 8))
    uc = 620 * num_parameters**-0.28 * samples**-0.36 * t**0.22 * noise[0]
    first = 0.02 + 3.5 * float(rng.random() < 0.35) * rng.random()
    trainable = num_parameters if family == "scratch" else int(0.4 * num_parameters)
    forward = 28 * num_parameters / 1e9
    obeyed = math.exp(-0.6 * first)
    return {
        "id": f"{family}-{size}-{start}-{samples}-s{seed}",
        **{"family": family, "size": size, "start": start, "seed": seed},
        **{"P": num_parameters, "P_t": trainable, "F": forward, "S": samples},
        **{"C": samples * forward * (1 + trainable / num_parameters), "T": t, "T_prefix": 0.98 * t + 0.05},
        **{"UC": uc + (first - 0.4) / 14, "UC_prefix": uc, "UC_first": first, "UC_bits_per_byte": 0.31 * uc},
        **{"ST": 0.6 * noise[2] * (10_000 / samples) ** 0.35 if samples < 40_000 else 0.03 * noise[2]},
        **{"SC": 0.2 + 4e3 * num_parameters**-0.3 * samples**-0.55 * noise[3]},
        **{"UC_shuffled": uc + 1.1 * noise[4], "UC_prefix_shuffled": uc + max(0.02, 2.1 - 1.7 * uc) * noise[5]},
        **{"right_language": obeyed, "right_language_prefix": 1.0 if uc < 0.9 else 0.985},
        **{"attribute_accuracy": 0.9 * obeyed, "attribute_accuracy_prefix": min(0.99, 1.25 - 0.5 * uc)},
        **{"exact_match": 0.3 * obeyed, "exact_match_prefix": max(0.0, 0.9 - uc)},
        **{"cider": 10 * obeyed * math.exp(-uc), "cider_prefix": 10 * math.exp(-uc * noise[6])},
        **{"bleu": 90 * math.exp(-0.3 * uc * noise[7]), "disambiguation": 0.5 + 0.5 * math.exp(-uc)},
    }


def write_study(
    path: Path,
    rows: Iterable[Mapping[str, Any]] | None = None,
    *,
    coverage: Coverage = COVERAGE,
    title: str = "Captions by way of translation",
    caption_suffix: str = "",
) -> Path:
    """Write a study folder without laws (`write_laws` adds them)."""
    rows = list(grid() if rows is None else rows)
    path.mkdir(parents=True, exist_ok=True)
    (path / "study.toml").write_text(_toml(coverage, title), encoding="utf-8")
    write_csv(path, rows)
    keys = [f"test-{index:05d}" for index in range(4)]
    for row in rows:
        _write_run(path / "runs" / row["id"], row, coverage, keys, caption_suffix)
    _write_images(path / "data" / "test", keys)
    return path


def write_laws(path: Path, *, bootstrap: int = 20) -> None:
    """Fit compute laws over all runs, and the product law over all runs and per family, to runs.csv."""
    table = Table.read(path / "runs.csv")
    for column in ("UC_prefix", "ST", "SC"):
        options = FitConfig(form="compute", columns={"y": column}, frontier=True, bootstrap=bootstrap)
        fit_law(options, table).save(path / "laws" / f"compute-{column}.json")
    options = FitConfig(form="product", columns={"y": "UC_prefix"}, bootstrap=bootstrap)
    law, by_family = fit_law(options, table), fit_law(dataclasses.replace(options, group="family"), table)
    law = dataclasses.replace(law, fits={**law.fits, **by_family.fits})
    law.save(path / "laws" / "product-UC_prefix.json")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write runs.csv; numbers that a row lacks were not measured."""
    write_runs(path / "runs.csv", (RunRow(**row) for row in rows))


def _toml(coverage: Coverage, title: str) -> str:
    return (
        f"title = {json.dumps(title, ensure_ascii=False)}\n\n[coverage]\n"
        f"caption = {json.dumps(coverage.caption)}\ntranslation = {json.dumps(coverage.translation)}\n\n"
        "[grid.scratch]\nsizes = ['d32', 'd48', 'd64', 'd96']\nsamples = [10_000, 20_000, 40_000]  # <b>budgets</b>\n"
    )


def _write_run(folder: Path, row: Mapping[str, Any], coverage: Coverage, keys: list[str], suffix: str) -> None:
    cells = {cell: _measure(row, coverage, cell) for cell in (*coverage.cells, *coverage.split("UC"))}
    LossRecord(run=row["id"], cells=cells).write(folder / "losses.json")
    unseen = {cell.language for cell in coverage.split("UC")}
    captions = []
    for key in keys:
        for code in coverage.languages:
            text = TEXTS.get(code, code)
            obeyed = code not in unseen or row["UC_first"] < 0.5
            for prefix, caption in (("", text if obeyed else TEXTS["en"]), (LANGUAGES[code].prefix, text)):
                captions.append(
                    GeneratedCaption(key=key, language=code, prefix=prefix, caption=caption + suffix, reference=text)
                )
    write_captions(folder / "captions.jsonl", captions)
    versions = {"polyglance": "0.1.0", "torch": "2.13.0", "machine": {"cpu": "two cores", "threads": 1}}
    write_json(folder / "env.json", versions)


def _measure(row: Mapping[str, Any], coverage: Coverage, cell: Cell) -> CellRecord:
    split = coverage.split_of(cell)
    shift = 1 + 0.04 * (list(LANGUAGES).index(cell.language) - 3.5)
    if split != "UC":
        return CellRecord(split=split, losses={"plain": _loss(row[split or "ST"] * shift)})
    columns = {variant: "UC" if variant == "plain" else f"UC_{variant}" for variant in VARIANTS}
    return CellRecord(
        split=split,
        losses={variant: _loss(row[column] * shift) for variant, column in columns.items()},
        generation={variant: _scores(row, ending) for variant, ending in (("plain", ""), ("prefix", "_prefix"))},
    )


def _loss(mean_nats: float) -> CellLoss:
    tokens = 256 * 14
    return CellLoss(
        samples=256, tokens=tokens, bytes=256 * 62, nats=mean_nats * tokens, mean_nats=mean_nats, first_nats=mean_nats
    )


def _scores(row: Mapping[str, Any], ending: str) -> CaptionScores:
    shape = row[f"attribute_accuracy{ending}"]
    return CaptionScores(
        samples=256,
        right_language=row[f"right_language{ending}"],
        right_language_of_references=0.99,
        exact_match=row[f"exact_match{ending}"],
        attributes={"colour": 0.98 * shape, "shape": shape},
        cider=row[f"cider{ending}"],
    )


def _write_images(folder: Path, keys: list[str]) -> None:
    with ShardWriter(folder, source="a test", licence="CC0-1.0", overwrite=True) as writer:
        for index, key in enumerate(keys):
            image = Image.new("RGB", (32, 32), "white")
            draw = ImageDraw.Draw(image)
            draw.ellipse((3, 9, 14, 20), fill=COLOURS[index % len(COLOURS)])
            draw.rectangle((18, 10, 28, 20), fill=COLOURS[(index + 1) % len(COLOURS)])
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            writer.write(ImageRecord(key=key, image=buffer.getvalue(), annotations=annotations_from_texts(TEXTS)))
