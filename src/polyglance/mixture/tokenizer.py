"""A small tokenizer of one's own, trained on the training texts, for models that bring none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = [
    "BOS",
    "EOS",
    "MASK",
    "PAD",
    "SPECIAL_TOKENS",
    "encode",
    "encode_with_gaps",
    "load_tokenizer",
    "train_tokenizer",
]

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
"""In the order of their ids; the first three as in Gemma's vocabulary."""
PAD, EOS, BOS, UNKNOWN, MASK = range(5)

_ALONE = Regex(r"[\p{Han}\p{P}\p{S}]")
"""Characters that are words by themselves: Chinese characters, punctuation, symbols."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A tokenizer over words, Chinese characters and punctuation, which never joins two of them.

    Where the distinct words of the texts fit into the vocabulary each is one token; otherwise words are split by byte
    pair encoding. So a text's tokens begin with the tokens of any whole words it begins with, which is what makes a
    language prefix the same tokens alone as inside a caption.

    Args:
        texts: the training texts, sources and prompts among them.
        vocab_size: entries at most, special ones included.

    Raises:
        ValueError: no text at all.
    """
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_ALONE, "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never")]
    )
    distinct = sorted(set(texts))
    if not distinct:
        raise ValueError("no text to train a tokenizer on")
    words = {word for text in distinct for word, _ in splitter.pre_tokenize_str(text)}
    special = list(SPECIAL_TOKENS)
    if len(words) + len(special) <= vocab_size:
        vocabulary = {word: i for i, word in enumerate((*special, *sorted(words)))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.add_special_tokens(special)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = splitter
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            limit_alphabet=vocab_size - len(special),
            special_tokens=special,
            show_progress=False,
        )
        tokenizer.train_from_iterator(distinct, trainer)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json. It reads a special token that is spelt out in a text as the text it is.

    Raises:
        ValueError: no such file, or not a tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such tokenizer file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        raise ValueError(f"{path}: not a tokenizer of the tokenizers library ({error})") from None
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, nothing added to them; a text that spells `<mask>` or `<eos>` is words like any other."""
    tokenizer.encode_special_tokens = True  # the library forgets it where a tokenizer is copied to another process
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def encode_with_gaps(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Token ids of texts with a `<mask>` token between each two of them.

    Raises:
        ValueError: the tokenizer has no such token.
    """
    mask = tokenizer.token_to_id(SPECIAL_TOKENS[MASK])
    if mask is None:
        raise ValueError("the tokenizer has no <mask> token, which the masking of source words needs")
    first, *others = encode(tokenizer, texts)
    return first + [token for ids in others for token in (mask, *ids)]
