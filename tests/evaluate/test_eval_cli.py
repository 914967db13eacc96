"""Each verb of `polyglance eval`, from the command to its scores."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_evaluation
import torch

from polyglance.cli import main
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader, read_annotations
from polyglance.evaluate.cells import read_held_out
from polyglance.evaluate.config import LossConfig
from polyglance.evaluate.folder_loss import measure_folder
from polyglance.evaluate.loss import measure_cell
from polyglance.evaluate.score_report import read_scores
from polyglance.languages import LANGUAGES
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    texts = {one.text for _, annotations in read_annotations(world / "test") for one in annotations}
    tiny_evaluation.tiny_model(folder / "model", texts=tuple(sorted(texts)))
    tiny_evaluation.tiny_model(folder / "start", texts=tuple(sorted(texts)), seed=1)
    tiny_evaluation.xm3600(folder / "root")
    tiny_evaluation.commute(folder / "root")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    main(["eval", *map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


def options(inputs: Path, out: Path, root: Path | None = None) -> list[object]:
    return ["--model", inputs / "model", "--root", root or inputs / "root", "--out", out, "--limit", 6]


def test_caption(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--max-new-tokens", 5, "--beams", 2]
    verb = ["caption", "--benchmark", "xm3600", "--lang", "fr,zh", "--prefix", "auto", *few]
    french, chinese = run(capsys, *verb, *options(inputs, tmp_path))
    assert (french["num_rows"], french["num_errors"]) == (6, 0)
    protocols = [one["protocol"] for result in (french, chinese) for one in result["scores"] if one["name"] == "CIDEr"]
    assert protocols in (["coco", "characters"], ["paper", "paper"]), "the paper's where stanza is installed"
    assert "|subset:first6|" in french["scores"][0]["signature"]
    assert "prefix-beams2-32px-first6" in french["folder"]
    sidecar = json.loads((Path(french["folder"]) / "prediction.json").read_text())
    assert (sidecar["prefix"], sidecar["benchmark"], sidecar["split"]) == ("La photo montre", "xm3600", "all")
    kept = read_scores(french["folder"])
    assert kept.scores[0].value == french["scores"][0]["value"]


def test_shards(inputs: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--max-new-tokens", 5, "--beams", 1, "--split", "test", "--lang", "fr"]
    (captions,) = run(
        capsys, "caption", "--benchmark", "shards-caption", *few, *options(inputs, tmp_path, world), "--metrics", "bleu"
    )
    assert [one["name"] for one in captions["scores"]] == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"]
    (translations,) = run(
        capsys, "translate", "--benchmark", "shards-translation", *few, *options(inputs, tmp_path, world)
    )
    assert [one["name"] for one in translations["scores"]] == ["BLEU", "chrF"]
    (unscored,) = run(
        capsys, "translate", "--benchmark", "shards-translation", *few, *options(inputs, tmp_path, world), "--no-score"
    )
    assert unscored["scores"] == []


def test_disambiguate(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = run(capsys, "disambiguate", "--lang", "de", *options(inputs, tmp_path))
    rows = [json.loads(line) for line in (Path(result["folder"]) / "predictions.jsonl").read_text().splitlines()]
    wins = sum(row["correct"] < row["incorrect"] for row in rows)
    strict, lenient, half = result["scores"]
    assert (strict["name"], strict["value"], strict["scale"]) == ("accuracy", pytest.approx(100 * wins / 6), "0-100")
    assert lenient["value"] == half["value"] == strict["value"], "no ties"
    assert strict["interval"][0] <= strict["value"] <= strict["interval"][1]
    assert read_scores(result["folder"]).measurements[0].metric.name == "accuracy"


def test_rows_without_an_answer_are_wrong(inputs: Path, tmp_path: Path) -> None:
    """And an image-blind scorer, for which every row ties, is at 0, 100 and 50."""
    from test_predict import Stub

    from polyglance.engines import ModelConfig
    from polyglance.engines.protocol import TextLoss
    from polyglance.evaluate.config import PredictConfig
    from polyglance.evaluate.predict import predict_benchmark
    from polyglance.evaluate.score_predictions import score_predictions

    values: dict[str, Any] = {"task": "disambiguation", "benchmark": "commute-disambiguation", "language": "de"}
    config = PredictConfig(
        model=ModelConfig(model="stub"), root=inputs / "root", out=tmp_path / "a", **values, limit=4, batch_size=4
    )
    report = score_predictions(predict_benchmark(config, Stub()))
    assert [score.value for score in report.scores] == [25.0, 25.0, 25.0], "one right, three without an answer"
    assert any("3 of 4 rows have no answer and count as wrong or empty" in warning for warning in report.warnings)

    class Blind(Stub):
        def measure_losses(self, images: Any, *args: Any) -> Any:
            return [(TextLoss(nats=1.0, num_tokens=1), TextLoss(nats=1.0, num_tokens=1))] * len(images)

    blind = score_predictions(predict_benchmark(PredictConfig(**{**vars(config), "out": tmp_path / "b"}), Blind()))
    assert [score.value for score in blind.scores] == [0.0, 100.0, 50.0]
    assert "4 ties in 4 rows" in blind.warnings[0]
    assert "|ties:4|" in blind.scores[0].signature


def test_clip_score_joins_the_scores(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2.5 times the cosine, not below 0, times 100, averaged (the cosines themselves are tested in tests/engines)."""
    asked: list[str] = []

    class StubScorer:
        model_type, digest = "clip", "0123456789"

        def cosines(self, images: Any, texts: Any) -> list[float]:
            asked.extend(texts)
            return torch.linspace(-0.2, 0.3, len(texts)).tolist()

    monkeypatch.setattr("polyglance.evaluate.clip_score.open_scorer", lambda config: StubScorer())
    few = ["--max-new-tokens", 5, "--beams", 1, "--clip", tmp_path / "clip", "--clip-prefix", "A photo depicts "]
    verb = ["caption", "--benchmark", "xm3600", "--lang", "fr", *few]
    (result,) = run(capsys, *verb, *options(inputs, tmp_path / "out"))
    cider, score = result["scores"]
    assert (cider["name"], score["name"]) == ("CIDEr", "MCLIPScore")
    assert score["value"] == pytest.approx(100 * 2.5 * (0.1 + 0.2 + 0.3) / 6, rel=1e-5)
    assert "|model:clip-01234567|" in score["signature"]
    assert "|prefix:A photo depicts|weight:2.5|" in score["signature"]
    assert all(text.startswith("A photo depicts ") for text in asked)
    kept = read_scores(result["folder"])
    assert [one.name for one in kept.scores] == ["CIDEr", "MCLIPScore"]


def test_loss(inputs: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The losses are those that studies measure."""
    model, data, out = inputs / "model", world / "test", tmp_path / "losses.json"
    parts = ["--captioned", "en", "--translated", "fr,zh", "--initial", inputs / "start", "--samples-per-cell", 5]
    record = run(capsys, "loss", "--model", model, "--data", data, *parts, "--batch-size", 2, "--out", out)
    assert json.loads(out.read_text()) == record
    splits = {name: cell["split"] for name, cell in record["cells"].items()}
    assert splits == {
        "caption-en": "SC",
        "translation-fr": "ST",
        "translation-zh": "ST",
        "caption-fr": "UC",
        "caption-zh": "UC",
    }
    processor = Processor.load(model)
    prefixes = {code: entry.prefix for code, entry in LANGUAGES.items()}
    reader = ShardReader(data)
    for name, cell in record["cells"].items():
        (samples,) = read_held_out(reader, [Cell.parse(name)], image_size=32, samples_per_cell=5)
        limits = {"max_source_tokens": 80, "max_target_tokens": 95}
        both = {"prefix": prefixes[samples.cell.language], "variants": ("plain", "prefix")}
        expected = measure_cell(load_polyglance(model), processor, samples, **limits, **both)
        for variant, loss in expected.items():
            assert cell["losses"][variant] == pytest.approx(vars(loss), rel=1e-5), (name, variant)
    unseen = [record["cells"][f"caption-{code}"]["losses"]["prefix"]["mean_nats"] for code in ("fr", "zh")]
    assert record["UC_prefix"] == pytest.approx(sum(unseen) / 2)
    start = measure_folder(LossConfig(model=inputs / "start", data=data, samples_per_cell=5))
    assert {cell.split for cell in start.cells.values()} == {None}
    untrained = [start.cells[Cell("caption", code)].losses["plain"].mean_nats for code in ("fr", "zh")]
    assert record["T"] == pytest.approx(sum(untrained) / 2, rel=1e-5)
    assert "initial" in record


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in run(capsys, "list")}
    assert len(rows["xm3600"]["splits"]["all"]["languages"]) == 36
    assert rows["commute-disambiguation"]["task"] == "disambiguation"
    main(["eval", "list", "--benchmark", "xm3600"])
    assert "xm3600/captions.jsonl" in capsys.readouterr().out
    main(["eval", "--list", "--json"])
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["caption", "--benchmark", "commute-translation"], "is a benchmark of translation, not of caption"),
        (["translate", "--benchmark", "multi30k-task1", "--lang", "fr"], "multi30k"),
        (["caption", "--benchmark", "xm3600", "--lang", "fr", "--beams", "0"], "beams is 0"),
        (["disambiguate", "--lang", "de", "--resolution", "64"], "takes images of 32 pixels only"),
        (["disambiguate", "--lang", "de", "--beams", "2"], "--beams has no effect in disambiguation"),
        (["disambiguate", "--lang", "de", "--metrics", "chrf"], "--metrics has no effect in disambiguation"),
        (["translate", "--benchmark", "multi30k-task1", "--prefix", "auto"], "--prefix has no effect but on captions"),
        (["translate", "--benchmark", "multi30k-task1", "--clip", "x"], "--clip has no effect but on captions"),
        (["caption", "--benchmark", "xm3600", "--no-score", "--metrics", "cider"], "no effect without --score"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["eval", *arguments, *map(str, options(inputs, tmp_path))])
    assert message in capsys.readouterr().err
