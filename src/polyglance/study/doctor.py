"""Examination of the machine: what works here, and what the named recipes, runs and studies need."""

import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from polyglance.environment import describe_gpus, read_versions
from polyglance.languages import did_you_mean
from polyglance.packages import EXTRA_MODULES
from polyglance.processes import memory_bytes, num_cores

__all__ = ["Check", "examine_machine"]

State = Literal["ok", "note", "missing"]
_LITTLE_DISK_GB = 20.0
_LITTLE_MEMORY_GB = 4.0
_ENGINE_STEPS = ("recaption", "translate", "match")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check."""

    name: str
    state: State
    """`ok`; `note`: some functions do not work without it; `missing`: something requested cannot work."""
    found: str
    advice: str = ""
    """Advice; empty if there is nothing to do."""


def examine_machine(files: Sequence[Path] = (), extras: Sequence[str] = ()) -> tuple[Check, ...]:
    """Look at machine, packages and disk, and at what the named files need.

    Args:
        files: recipes, runs and studies (TOML) whose data and checkpoints are looked for.
        extras: extras of the package that have to be installed.

    Raises:
        ValueError: an unknown extra.
    """
    for name in extras:
        if name not in EXTRA_MODULES:
            raise ValueError(f"there is no extra {name!r}; {did_you_mean(name, EXTRA_MODULES)}")
    return (
        *_check_machine(),
        *(_check_extra(name, is_needed=name in extras) for name in EXTRA_MODULES),
        *(check for path in files for check in _check_file(path)),
    )


def _check_machine() -> Iterator[Check]:
    version = platform.python_version()
    is_new = sys.version_info >= (3, 11)
    yield Check(
        name="Python", state="ok" if is_new else "missing", found=version, advice="" if is_new else "3.11 or newer"
    )
    yield Check(name="CPU", state="ok", found=f"{num_cores()} cores, {platform.machine()}")
    memory_gb = memory_bytes() / 1e9
    little = memory_gb < _LITTLE_MEMORY_GB
    advice = "enough for laws and scores; training wants more" if little else ""
    yield Check(name="memory", state="note" if little else "ok", found=f"{memory_gb:.0f} GB", advice=advice)
    yield _check_disk(Path())
    yield _check_gpus()


def _check_disk(folder: Path) -> Check:
    free_gb = shutil.disk_usage(folder).free / 1e9
    little = free_gb < _LITTLE_DISK_GB
    advice = "checkpoints of the published sizes take 2 to 45 GB each" if little else ""
    is_writable = os.access(folder, os.W_OK)
    if not is_writable:
        return Check(name="disk", state="missing", found="this folder cannot be written to", advice="another folder")
    return Check(name="disk", state="note" if little else "ok", found=f"{free_gb:.0f} GB free here", advice=advice)


def _check_gpus() -> Check:
    advice = "micro models train on the CPU, published sizes do not (polyglance model card)"
    if find_spec("torch") is None:
        return Check(name="GPU", state="note", found="not known without torch", advice=advice)
    gpus = describe_gpus().get("gpus", [])
    if not gpus:
        return Check(name="GPU", state="note", found="none that torch sees", advice=advice)
    return Check(name="GPU", state="ok", found="; ".join(gpus))


def _check_extra(name: str, *, is_needed: bool) -> Check:
    absent = [module for module in EXTRA_MODULES[name] if find_spec(module) is None]
    if absent:
        return Check(
            name=f"extra {name}",
            state="missing" if is_needed else "note",
            found=f"without {', '.join(absent)}",
            advice=f"pip install 'polyglance[{name}]'",
        )
    versions = read_versions(EXTRA_MODULES[name][:1])
    found = ", ".join(f"{package} {version}" for package, version in versions.items() if version != "not installed")
    return Check(name=f"extra {name}", state="ok", found=found or "installed")


def _check_file(path: Path) -> Iterator[Check]:
    """Look for the data and checkpoints that a TOML file names."""
    from polyglance.config import load
    from polyglance.data.build.recipe import Recipe
    from polyglance.study.config import StudyConfig
    from polyglance.train.config import RunConfig

    if path.is_dir():
        found = "a folder; expected a recipe, run or study (TOML)"
        yield Check(name=str(path), state="missing", found=found, advice=_name_toml_files(path))
        return
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        is_recipe, is_study = bool(content.keys() & {"images", "captioned"}), "families" in content
        config: Any = load(Recipe if is_recipe else StudyConfig if is_study else RunConfig, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        yield Check(
            name=str(path), state="missing", found=str(reason).removeprefix(f"{path}: "), advice="correct the file"
        )
        return
    yield Check(name=str(path), state="ok", found="recipe" if is_recipe else "study" if is_study else "run")
    needs = _list_recipe_needs if is_recipe else _list_study_needs if is_study else _list_run_needs
    for what, needed, advice in needs(config):
        there = needed.exists() or any(needed.parent.glob(f"{needed.name}.*"))
        yield Check(
            name=f"  {what}",
            state="ok" if there else "missing",
            found=str(needed) if there else f"no {needed}",
            advice="" if there else advice,
        )
    if is_study and config.cluster.store:
        yield _check_store(config.cluster.store)


def _name_toml_files(folder: Path) -> str:
    """Return what to do about a folder that was given in place of a file."""
    files = sorted(path.name for path in folder.glob("*.toml"))
    return f"name one of its files: {', '.join(files[:3])}" if files else "name the file"


def _check_store(url: str) -> Check:
    """Look for the package that a store needs; the store itself is not asked."""
    from polyglance.object_store import StoreError, open_store

    try:
        open_store(url)
    except StoreError as error:
        return Check(name="  store", state="missing", found=url, advice=str(error).removeprefix(f"{url}: "))
    return Check(name="  store", state="ok", found=url)


def _list_recipe_needs(recipe: Any) -> Iterator[tuple[str, Path, str]]:
    for source in recipe.images:
        yield "images", source.path, "the folder or files of the images"
    for source in recipe.captioned:
        yield "captioned set", source.path, "download the published set"
    for source in recipe.bitext:
        yield f"bitext {source.language}", source.path, "sentence pairs, from https://opus.nlpl.eu for example"
    for step in _ENGINE_STEPS:
        chosen = getattr(recipe, step)
        if chosen is not None and chosen.engine.path is not None:
            yield (
                f"[{step}]",
                chosen.engine.path,
                f"hf download OWNER/{chosen.engine.path.name} --local-dir {chosen.engine.path}",
            )


def _list_run_needs(run: Any) -> Iterator[tuple[str, Path, str]]:
    yield "data", run.data, "polyglance data build, or data import"
    if run.test is not None:
        yield "held-out data", run.test, "polyglance data build, with output.test_fraction"
    if run.start.checkpoint is not None:
        yield "checkpoint", run.start.checkpoint, "polyglance model assemble"


def _list_study_needs(study: Any) -> Iterator[tuple[str, Path, str]]:
    if study.data.path is not None:
        yield "data", study.data.path / "train", "polyglance data build, or data import"
        yield "held-out data", study.data.path / "test", "polyglance data build, with output.test_fraction"
    if study.data.table is not None:
        yield "table", study.data.table.table, "the table of images and texts"
        yield "images", study.data.table.images, "the folder of the images"
    for family in study.families:
        for size in family.sizes:
            folder = family.checkpoint_of(size)
            yield f"checkpoint {size}", folder, f"polyglance model assemble --out {folder} ..."
