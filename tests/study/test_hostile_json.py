"""2,000 mutations of the JSON files of models, tokenizers, runs, studies, caches and data sets: read, or refused in one
line. The seals are taken out, as an attacker would, so that the readers themselves are tried."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from polyglance.data.manifest import read_manifest
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.engines.checkpoints import Checkpoint
from polyglance.engines.folders import model_type
from polyglance.engines.loading import load_pretrained
from polyglance.files import DIGESTS_NAME, read_digests, read_record
from polyglance.mixture.features import FeaturesInfo
from polyglance.mixture.token_cache import TokensInfo, open_token_cache
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import load_config
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor
from polyglance.run_records import LossRecord, cells_from_json, read_captions
from polyglance.study.grid.lengths import TokenLengths
from polyglance.study.grid.verify import verify_folder
from polyglance.study.planning.costs import StudyCosts
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.folder import RunFolder
from polyglance.train.identity import RunIdentity
from tests.study.test_altered_bytes import make_config
from tests.train.runs import write_checkpoint, write_tokenizer

NUM_MUTATIONS = 2_000
DEEP = "[" * 900 + "]" * 900
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 10**12, 1e308, "", "a\nb", "../../etc/passwd", "kernels-community/flash-attn", [], {},
    [[]], [None], {"a": 1}, "x" * 5000, -0.5, "\ud800", [1, 2, 3],
)  # fmt: skip


@pytest.fixture(scope="module")
def place(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    tokenizer_path = write_tokenizer(world, root)
    write_checkpoint(root / "model", tokenizer_path, vocab_size=1024)
    index = {"metadata": {}, "weight_map": dict.fromkeys(Checkpoint(root / "model"), "model.safetensors")}
    (root / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    tokenizer, reader = load_tokenizer(tokenizer_path), ShardReader(world / "train")
    cache = open_token_cache(reader, tokenizer, tokenizer, root=root / "tokens").folder
    shutil.copy(cache / "tokens.json", root / "tokens.json")
    shutil.copy(world / "train" / "manifest.json", root / "manifest.json")
    loss = {"samples": 1, "tokens": 2, "bytes": 3, "nats": 1.5, "mean_nats": 1.5, "first_nats": 0.5}
    cells = {"caption-fr": {"split": "UC", "losses": {"plain": loss}}}
    records: Mapping[str, Any] = {
        "losses.json": {"format": 1, "run": "a", "cells": cells, "initial": cells},
        "initial.json": cells,
        "features.json": {
            "format": 1, "fingerprint": "a", "num_images": 2, "image_tokens": 1, "width": 1, "dtype": "float32",
            "files": [{"name": "00000.bin", "rows": 2, "sha256": "0" * 64}],
        },
        "costs.json": {"fingerprint": "a", "seconds": {"x": 1.0}, "memory_bytes": 3},
        "lengths.json": {"source_tokens": 3, "target_tokens": 4},
        "captions.jsonl": {
            "key": "a", "language": "fr", "prefix": "", "caption": "un chat", "reference": "un chien",
        },
        DIGESTS_NAME: {"files": [{"name": "a", "bytes": 1, "sha256": "0" * 64}]},
        "settings.json": {"settings": "a", "inputs": {"data": "b"}},
        "training.json": {"settings": "a"},
        "best.json": {"step": 2, "name": "UC", "value": 1.0},
        "checkpoint.json": {
            "format": 2, "step": 2, "is_sharded": False, "settings": "", "state": {"num_skipped": 0},
            "files": [{"name": "model.safetensors", "bytes": 1, "sha256": "0" * 64}],
        },
    }  # fmt: skip
    for name, values in records.items():
        (root / name).write_text(json.dumps(values))
    return root


def readers(place: Path, world: Path) -> dict[str, Callable[[Path], Any]]:
    """Return the name of each file -> what reads it in a folder."""
    config = make_config(world, place / "out")
    identity = RunIdentity(settings="a", inputs={"data": "c"})

    def read_model(folder: Path) -> None:
        if (folder / "model.safetensors.index.json").exists():
            (folder / "model.safetensors.index.json").unlink()
        load_config(folder)
        load_polyglance(folder)

    def read_run(folder: Path) -> None:
        run = RunFolder(folder, config, identity)
        (folder / "config.toml").write_text("seed = 0")
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "x").touch()
        run.check_settings()

    def read_step(folder: Path) -> None:
        step = folder / "checkpoints" / "step-00000002"
        step.mkdir(parents=True)
        shutil.copy(folder / "checkpoint.json", step)
        model = torch.nn.Linear(1, 1)
        Checkpoints(folder, Runtime.single()).load_newest(model, torch.optim.AdamW(model.parameters()))

    def read_best(folder: Path) -> None:
        (folder / "checkpoints").mkdir()
        shutil.copy(folder / "best.json", folder / "checkpoints")
        Checkpoints(folder, Runtime.single()).best()

    def read_finished(folder: Path) -> None:
        final = folder / "checkpoints" / "final"
        final.mkdir(parents=True)
        shutil.copy(folder / "training.json", final)
        RunFolder(folder, config, identity).is_trained()

    return {
        "model/config.json": read_model,
        "model/processor_config.json": Processor.load,
        "model/tokenizer.json": Processor.load,
        "model/generation_config.json": lambda folder: load_pretrained(Polyglance, folder),
        "model/model.safetensors.index.json": lambda folder: (model_type(folder), load_polyglance(folder)),
        "tokens.json": TokensInfo.read,
        "manifest.json": read_manifest,
        "losses.json": lambda folder: LossRecord.read(folder / "losses.json").summary(),
        "initial.json": lambda folder: cells_from_json(read_record(folder / "initial.json"), "initial.json"),
        "features.json": FeaturesInfo.read,
        "costs.json": lambda folder: StudyCosts.read(folder / "costs.json", "a"),
        "lengths.json": lambda folder: TokenLengths.read(folder / "lengths.json"),
        "captions.jsonl": lambda folder: read_captions(folder / "captions.jsonl"),
        DIGESTS_NAME: read_digests,
        "settings.json": read_run,
        "training.json": read_finished,
        "best.json": read_best,
        "checkpoint.json": read_step,
    }


def mutate(text: str, draw: random.Random) -> str:
    """Change a value, a key or the text."""
    if draw.random() < 0.2:
        at = draw.randrange(len(text))
        return draw.choice([text[:at], text[:at] + draw.choice('"{}[],:9\\\x00') + text[at + 1 :], DEEP, "[]", "3", ""])
    values = json.loads(text)
    if isinstance(values, dict):
        values.pop("seal", None)
    parent, key = draw.choice(list(places(values)))
    match draw.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        case 2:
            return json.dumps(values).replace(json.dumps(parent[key]), DEEP, 1)
        case 3 if isinstance(parent, dict):
            return json.dumps(values)[:-1] + f", {json.dumps(key)}: 1, {json.dumps(key)}: NaN}}"
        case 4:
            parent[key] = [parent[key]] * 3
        case _:
            parent[key] = draw.choice(ODD)
    return json.dumps(values)


def places(values: Any) -> Any:
    """Yield the container and the key of every value, but of long lists the first ones only."""
    items = values.items() if isinstance(values, dict) else list(enumerate(values))[:3]
    for key, value in list(items)[:40]:
        yield values, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def test_mutated_files_are_read_or_refused_in_one_line(place: Path, world: Path, tmp_path: Path) -> None:
    draw, refused, num = random.Random(5), 0, 0
    chosen = readers(place, world)
    slow = {name for name in chosen if name.startswith("model/")}
    for name, read in chosen.items():
        source = place / name
        text = source.read_text()
        for _ in range(50 if name in slow else 140):
            num += 1
            if (tmp_path / "copy").exists():
                shutil.rmtree(tmp_path / "copy")
            if name in slow:
                shutil.copytree(source.parent, tmp_path / "copy", copy_function=link)
            else:
                (tmp_path / "copy").mkdir()
            path = tmp_path / "copy" / source.name
            path.unlink(missing_ok=True)
            mutated = mutate(text, draw)
            path.write_bytes(mutated.encode(errors="surrogatepass"))
            with redirect_stderr(StringIO()) as said:
                try:
                    read(tmp_path / "copy")
                    message = ""
                except (ValueError, OSError) as error:
                    message = str(error)
                except BaseException as error:  # noqa: BLE001
                    pytest.fail(f"{name}: {type(error).__name__}: {error}: {mutated[:300]}")
            refused += bool(message)
            assert "\n" not in message, (name, message)
            assert "Traceback" not in said.getvalue()
            verify_folder(tmp_path / "copy")
    assert num >= NUM_MUTATIONS
    assert refused > NUM_MUTATIONS // 2


def link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
