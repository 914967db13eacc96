"""The small tokenizer: texts come back, and a prefix is the same tokens alone as inside a caption."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from polyglance.data.world import PREFIXES, describe, sample_scene
from polyglance.data.world.grammars import GRAMMARS
from polyglance.mixture.collate import encode_targets
from polyglance.mixture.tokenizer import (
    BOS,
    EOS,
    MASK,
    PAD,
    SPECIAL_TOKENS,
    encode_texts,
    encode_with_gaps,
    load_tokenizer,
    train_tokenizer,
)

TEXTS = [describe(sample_scene("pairs", 0, index, "train"), code) for index in range(60) for code in GRAMMARS]


@pytest.fixture(scope="module", params=[1024, 400], ids=["words", "pieces"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=request.param)


def test_special_tokens_have_their_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(5))
    assert (PAD, EOS, BOS, MASK) == (0, 1, 2, 4)


def test_texts_come_back(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_prefix_is_the_same_tokens_alone_as_in_a_caption(tokenizer: Tokenizer) -> None:
    for number, code in enumerate(GRAMMARS):
        prefix = tokenizer.encode(PREFIXES[code]).ids
        assert tokenizer.encode(TEXTS[number]).ids[: len(prefix)] == prefix


def test_chinese_is_read_by_characters_and_words_are_whole_where_they_fit() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=1024)
    assert tokenizer.encode("图为一个红色").tokens == ["图", "为", "一", "个", "红", "色"]
    assert tokenizer.encode("Das Bild zeigt").tokens == ["Das", "▁Bild", "▁zeigt"]


def test_the_vocabulary_is_bounded_and_the_same_every_time() -> None:
    first, second = (train_tokenizer(reversed(TEXTS), vocab_size=200) for _ in range(2))
    assert first.get_vocab_size() <= 200
    assert first.to_str() == second.to_str() == train_tokenizer(TEXTS, vocab_size=200).to_str()


def test_special_tokens_spelt_out_in_a_text_are_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Whoever writes `<eos>` into a caption does not end it, and `<mask>` hides nothing."""
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["a <mask> b", "<eos>", "<pad><bos>", "x<mask>"]
    for reader in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):
        for ids in encode_texts(reader, texts):
            assert ids
            assert not {PAD, EOS, BOS, MASK} & set(ids)
    trained = train_tokenizer([*texts, "a b x"], vocab_size=60)
    assert [trained.decode(ids) for ids in encode_texts(trained, texts)] == texts


def test_a_tokenizer_never_cuts_or_pads(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Whatever its file says: a text that is cut silently would be a wrong number of tokens."""
    cutting = Tokenizer.from_str(tokenizer.to_str())
    cutting.enable_truncation(2)
    cutting.enable_padding()
    cutting.save(str(tmp_path / "tokenizer.json"))
    assert encode_texts(load_tokenizer(tmp_path / "tokenizer.json"), TEXTS[:2]) == encode_texts(tokenizer, TEXTS[:2])


def test_gaps_are_the_only_masks(tokenizer: Tokenizer) -> None:
    """Between pieces, tokens are what they were when `<mask>` itself stood in the text."""
    spelling = Tokenizer.from_str(tokenizer.to_str())  # reads special tokens that are spelt out
    for pieces in (["Das ", " zeigt ein ", ""], ["", " ", " Bild"], ["one piece"]):
        assert encode_with_gaps(tokenizer, pieces) == spelling.encode("<mask>".join(pieces)).ids
    assert encode_with_gaps(tokenizer, ["a <mask> b ", ""]).count(MASK) == 1
    tokenizer_without = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ValueError, match="no <mask> token"):
        encode_with_gaps(tokenizer_without, ["a", ""])


@given(texts=st.lists(st.text(min_size=1), min_size=1))
def test_any_text_has_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    for ids in encode_targets(tokenizer, texts, 8):
        assert len(ids) <= 8
        assert ids[-1] == EOS


def test_mistakes_are_one_line(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="no text to train"):
        train_tokenizer([], vocab_size=200)
    with pytest.raises(ValueError, match="no such tokenizer file"):
        load_tokenizer(f"{tmp_path}/absent.json")
    broken = tmp_path / "tokenizer.json"  # type: ignore[operator]
    broken.write_text("{")
    with pytest.raises(ValueError, match="not a tokenizer"):
        load_tokenizer(broken)
