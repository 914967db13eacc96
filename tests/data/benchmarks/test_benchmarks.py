"""All benchmarks: names, what they say they need, and the project's own shards."""

from pathlib import Path

import pytest

from polyglance.data.benchmarks import BENCHMARKS, find_benchmark
from polyglance.data.benchmarks.shards import ShardBenchmark
from polyglance.data.shard import ShardWriter, read_records
from polyglance.records import Annotation, ImageRecord


def test_names() -> None:
    assert all(entry.name == name for name, entry in BENCHMARKS.items())
    with pytest.raises(ValueError, match="say which: commute-translation, commute-disambiguation"):
        find_benchmark("commute")
    with pytest.raises(ValueError, match="did you mean 'xm3600'"):
        find_benchmark("xm3006")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_says_what_it_needs(tmp_path: Path, name: str) -> None:
    entry = find_benchmark(name)
    for split in entry.splits:
        for language in entry.languages(split):
            files = entry.expected_files(split, language)
            assert len(files) >= 2
            with pytest.raises(ValueError, match=str(tmp_path)) as error:
                entry.load(tmp_path, split=split, language=language)
            message = str(error.value)
            assert "\n" not in message
            if not name.startswith("shards"):
                assert all(file.path in message and file.published_at in message for file in files)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if not name.startswith("shards")])
def test_unknown_splits_and_languages_are_refused(tmp_path: Path, name: str) -> None:
    entry = find_benchmark(name)
    with pytest.raises(ValueError, match=f"{name} has no split 'tset'"):
        entry.load(tmp_path, split="tset", language=entry.languages(entry.splits[0])[0])
    with pytest.raises(ValueError, match=f"{name} has no language 'xx'"):
        entry.load(tmp_path, split=entry.splits[0], language="xx")


def test_cells_of_the_world(world: Path) -> None:
    records = {record.key: record for record in read_records(world / "test")}
    for task in ("caption", "translation"):
        examples = find_benchmark(f"shards-{task}").load(world, split="test", language="fr")
        assert len(examples) == 40
        for example in examples:
            record = records[example.id.partition("#")[0]]
            assert example.image == record.image
            texts = [(a.source, a.text) for a in record.annotations if a.task == task and a.language == "fr"]
            assert [(example.source, text) for text in example.references] == texts
    assert examples[-1].image == examples[39].image == examples[38:][1].image
    assert find_benchmark("shards-caption").load(world, split="test", language="fr", images=False)[0].image is None


def annotation(text: str, **fields: str) -> Annotation:
    return Annotation(**{"task": "caption", "language": "th", "text": text, **fields})  # type: ignore[arg-type]


def test_references_are_of_one_style_and_one_source(tmp_path: Path) -> None:
    rows = (
        annotation("one"),
        annotation("two"),
        annotation("a long one", style="detailed"),
        annotation("eins", task="translation", source="one"),
        annotation("zwei", task="translation", source="two"),
        annotation("ein", task="translation", source="one"),
    )
    with ShardWriter(tmp_path / "mine", source="made up", licence="CC0-1.0") as writer:
        writer.write(ImageRecord(key="k", image=b"png", annotations=rows))
        writer.write(ImageRecord(key="l", image=b"gif", annotations=(annotation("other", language="de"),)))
    load = ShardBenchmark("caption").load
    assert [x.references for x in load(tmp_path, split="mine", language="th")] == [("one", "two")]
    detailed = ShardBenchmark("caption", style="detailed").load(tmp_path, split="mine", language="th")
    assert [(x.id, x.image, x.references) for x in detailed] == [("k", b"png", ("a long one",))]
    translated = ShardBenchmark("translation").load(tmp_path, split="mine", language="th")
    assert [(x.id, x.source, x.references) for x in translated] == [
        ("k#1", "one", ("eins", "ein")),
        ("k#2", "two", ("zwei",)),
    ]
    with pytest.raises(ValueError, match="no cell 'caption-fr'"):
        load(tmp_path, split="mine", language="fr")
    with pytest.raises(ValueError, match="caption-th has no style 'paragraph'"):
        ShardBenchmark("caption", style="paragraph").load(tmp_path, split="mine", language="th")
    with pytest.raises(ValueError, match=r"no data set 'mind' below .* did you mean 'mine'"):
        load(tmp_path, split="mind", language="th")
