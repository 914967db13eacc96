import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from polyglance.coverage import Cell
from polyglance.data.shard import ShardWriter
from polyglance.data.stats import Length, TextStats, measure_data_set
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.records import Drops, ImageRecord, annotations_from_texts

FIRST = {"en": "a dog runs", "de": "Ein Hund läuft schnell", "zh": "图为 一只狗。"}
SECOND = {"en": "cat", "zh": "猫"}


@pytest.fixture
def data_set(tmp_path):
    drops = Drops()
    drops.add("broken", "t.jsonl:3", 2)
    with ShardWriter(tmp_path / "set", source="", licence="", drops=drops) as writer:
        writer.write(ImageRecord(key="1", image=b"not read", annotations=annotations_from_texts(FIRST)))
        second = annotations_from_texts(SECOND, style="detailed")
        writer.write(ImageRecord(key="2", image=b"not read", annotations=second))
    return tmp_path / "set"


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of single characters without spaces, with special tokens, padding and truncation switched on."""
    characters = sorted({character for text in (*FIRST.values(), *SECOND.values()) for character in text})
    vocabulary = {character: number for number, character in enumerate(["[UNK]", "[CLS]", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=30)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return load_tokenizer(tmp_path / "tokenizer.json")


def test_texts_are_counted_and_measured(data_set):
    stats = measure_data_set(data_set)
    assert stats.num_images == 2
    assert stats.drops == {"broken": {"count": 2, "examples": ["t.jsonl:3"]}}
    assert [str(one.cell) for one in stats.cells] == [
        "caption-en",
        "caption-de",
        "caption-zh",
        "translation-en",
        "translation-de",
        "translation-zh",
    ]
    by_cell = {one.cell: one for one in stats.cells}
    chinese = by_cell[Cell("translation", "zh")]
    assert (chinese.num_texts, chinese.styles) == (2, {"short": 1, "detailed": 1})
    assert chinese.text == TextStats(
        chars=Length(mean=4.0, max=7),
        utf8_bytes=Length(mean=11.0, max=19),
        words=Length(mean=3.5, max=6),
        tokens=None,
    )
    assert chinese.source == TextStats(
        chars=Length(mean=6.5, max=10),
        utf8_bytes=Length(mean=6.5, max=10),
        words=Length(mean=2.0, max=3),
        tokens=None,
    )
    german = by_cell[Cell("caption", "de")]
    assert german.source is None
    assert (german.text.words, german.text.chars, german.text.utf8_bytes) == (
        Length(mean=4, max=4),
        Length(mean=22, max=22),
        Length(mean=23, max=23),
    )


def test_tokens_are_counted_whole_and_without_special_ones(data_set, tokenizer, monkeypatch):
    whole = measure_data_set(data_set, tokenizer)
    by_cell = {one.cell: one for one in whole.cells}
    assert by_cell[Cell("caption", "de")].text.tokens == Length(mean=19, max=19)
    chinese = by_cell[Cell("translation", "zh")]
    assert chinese.text.tokens == Length(mean=3.5, max=6)
    assert chinese.source is not None
    assert chinese.source.tokens == Length(mean=5.5, max=8)
    monkeypatch.setattr("polyglance.data.stats._TOKENIZER_BATCH", 1)
    assert measure_data_set(data_set, tokenizer) == whole


def test_rows_are_flat_and_of_one_shape(data_set, tokenizer):
    rows = measure_data_set(data_set, tokenizer).rows()
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["cell"] == "caption-en"
    assert (rows[0]["texts"], rows[0]["mean_chars"], rows[0]["max_tokens"]) == (2, 6.5, 8)
    assert rows[0]["source_mean_chars"] is None
    assert rows[-1]["source_max_words"] == 3


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a data set"):
        measure_data_set(tmp_path)
