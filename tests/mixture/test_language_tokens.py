"""A token of the asked language before every prompt: the tokenizer has it, so that every reader puts it there."""

import pickle
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader, read_records
from polyglance.evaluate.loss import frame_prompts
from polyglance.languages import LANGUAGES
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.prompts import find_asked_language, prompt_of, write_prompt
from polyglance.mixture.tokenizer import (
    MASK,
    encode_prompts,
    encode_texts,
    has_language_tokens,
    load_tokenizer,
    read_training_texts,
    train_tokenizer,
)
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor

CODES = ("en", "fr", "zh")
COVERAGE = Coverage(caption=("en",), translation=CODES)


@pytest.fixture(scope="module")
def texts(world: Path) -> list[str]:
    return list(read_training_texts(world / "train", {*CODES}))


@pytest.fixture(scope="module")
def plain(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, vocab_size=1024)


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, vocab_size=1024, language_tokens=CODES)


def language_token(tokenizer: Tokenizer, code: str) -> int:
    token = tokenizer.token_to_id(f"<to-{code}>")
    assert token is not None
    return token


def test_every_language_is_told_by_its_sentence() -> None:
    for code in LANGUAGES:
        assert find_asked_language(write_prompt("caption", code, style="detailed")) == code
        assert find_asked_language(write_prompt("translation", code, source="The target language is Thai. ")) == code
    assert find_asked_language("What? The target language is French. ") is None


def test_tokens_come_after_all_others_and_within_the_size(texts: list[str], plain: Tokenizer) -> None:
    for size in (1024, 150):
        tokenizer = train_tokenizer(texts, vocab_size=size, language_tokens=["zh", "fr"])
        assert tokenizer.get_vocab_size() <= size
        assert [language_token(tokenizer, code) - tokenizer.get_vocab_size() for code in CODES] == [-3, -2, -1]
    assert tokenizer.to_str() == train_tokenizer(reversed(texts), vocab_size=150, language_tokens=CODES).to_str()
    words = train_tokenizer(texts, vocab_size=1024, language_tokens=CODES)
    assert encode_texts(words, texts) == encode_texts(plain, texts)
    assert not has_language_tokens(plain)


def test_a_prompt_begins_with_its_token_and_a_text_never_holds_one(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for reader in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):
        for code in CODES:
            prompt = write_prompt("caption", code)
            assert encode_prompts(reader, [prompt]) == [
                [language_token(tokenizer, code), *encode_texts(reader, [prompt])[0]]
            ]
        spelt = encode_texts(reader, ["<to-fr>", "a <to-en> b"])
        assert not {language_token(tokenizer, code) for code in CODES} & {token for ids in spelt for token in ids}


def test_what_has_no_token_is_refused(tokenizer: Tokenizer, plain: Tokenizer, world: Path) -> None:
    for prompt, message in (
        (write_prompt("caption", "de"), "no language token for 'de', .* those of en, fr, zh"),
        ("What is it?", r"'What is it\?' asks for no language, .*\(en, fr, zh\): begin it with a sentence such as"),
    ):
        assert encode_prompts(plain, [prompt]) == encode_texts(plain, [prompt])
        with pytest.raises(ValueError, match=message) as caught:
            encode_prompts(tokenizer, [prompt])
        assert "\n" not in str(caught.value)
        assert encode_prompts(tokenizer, [prompt], must_know=False) == encode_texts(tokenizer, [prompt])
    reader = ShardReader(world / "train")
    with pytest.raises(ValueError, match="no language token for 'de'"):
        Mixture(MixtureConfig(), Coverage(caption=("en", "de")), reader, tokenizer, image_size=32, seed=0)


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("masked", [0.0, 1.0])
def test_training_and_evaluation_read_the_same_prompts(
    world: Path, tokenizer: Tokenizer, plain: Tokenizer, tmp_path: Path, is_cached: bool, masked: float
) -> None:
    """The data set has three more languages than the tokenizer has tokens for."""
    config = MixtureConfig(
        batch_size=24,
        token_cache=tmp_path if is_cached else None,
        source_masking=SourceMasking(samples=masked),
    )
    reader = ShardReader(world / "train")
    mixtures = [Mixture(config, COVERAGE, reader, one, image_size=32, seed=5) for one in (tokenizer, plain)]
    batch, other = (mixture.batch(1) for mixture in mixtures)
    for row, cell in enumerate(batch.cell):
        assert batch.input_ids[row, 0] == language_token(tokenizer, mixtures[0].cells[cell].language)
    assert torch.equal(batch.input_ids[:, 1:], other.input_ids)
    assert torch.equal(batch.attention_mask[:, 1:], other.attention_mask)
    assert bool((batch.input_ids == MASK).any()) == bool(masked)
    if masked:
        return
    known = {
        tuple(encode_prompts(tokenizer, [prompt_of(annotation)])[0]): prompt_of(annotation)
        for record in read_records(world / "train")
        for annotation in record.annotations
        if annotation.language in CODES
    }
    lengths = batch.attention_mask.sum(1) - 1
    prompts = [known[tuple(ids[:length].tolist())] for ids, length in zip(batch.input_ids, lengths, strict=True)]
    processor = Processor.for_model(MicroConfig(width=16).build(tokenizer.get_vocab_size()), tokenizer)
    for ids, mask in (frame_prompts(processor, prompts, 96), processor.prompts(prompts)):
        assert torch.equal(ids, batch.input_ids)
        assert torch.equal(mask, batch.attention_mask)
