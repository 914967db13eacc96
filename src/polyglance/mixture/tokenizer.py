"""Tokenizers: loading, encoding, and training of a small one on the data's texts for models without a tokenizer.

tokenizer = train_tokenizer(read_training_texts(Path("data/train"), {"en", "de"}), vocab_size=1024)
tokenizer = load_tokenizer("tokenizer.json")
encode_texts(tokenizer, ["A red circle."])
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from polyglance.data.shard import ShardReader
from polyglance.error_text import first_line
from polyglance.files import read_text
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE
from polyglance.mixture.prompts import find_asked_language, prompt_of

__all__ = [
    "BOS",
    "EOS",
    "MASK",
    "PAD",
    "SPECIAL_TOKENS",
    "add_language_tokens",
    "can_write",
    "choose_writable",
    "encode_prompts",
    "encode_texts",
    "encode_with_gaps",
    "find_language_token",
    "has_language_tokens",
    "load_tokenizer",
    "read_training_texts",
    "train_tokenizer",
]

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
"""Special tokens in the order of their ids; the first three as in Gemma's vocabulary."""
PAD, EOS, BOS, UNKNOWN, MASK = range(5)

_MAX_BYTES = 2**28
"""Largest tokenizer.json; those of 256,000 entries have 35 MB."""
_ALONE = Regex(r"[\p{Han}\p{P}\p{S}]")
"""Characters that are words on their own: Chinese characters, punctuation, symbols."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, language_tokens: Collection[str] = ()) -> Tokenizer:
    """Train a tokenizer over words, Chinese characters and punctuation; no token joins two of them.

    If the distinct words of the texts fit into the vocabulary each is one token; otherwise words are split by byte
    pair encoding. So the first words of a text have the same tokens alone as inside the text: a language prefix has the
    same tokens as in a caption.

    Args:
        texts: the training texts, with sources and prompts.
        vocab_size: largest number of entries, special ones included.
        language_tokens: languages that get a token each (`add_language_tokens`); none if there are none.

    Raises:
        ValueError: no text at all.
    """
    vocab_size -= len({SOURCE_LANGUAGE, *language_tokens}) if language_tokens else 0
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
        room = vocab_size - len(special)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            limit_alphabet=room,
            initial_alphabet=_choose_alphabet(distinct, room),
            special_tokens=special,
            show_progress=False,
        )
        tokenizer.train_from_iterator(distinct, trainer)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer.encode_special_tokens = True
    if language_tokens:
        add_language_tokens(tokenizer, language_tokens)
    return tokenizer


def add_language_tokens(tokenizer: Tokenizer, codes: Iterable[str]) -> None:
    """Add a token for each language, `<to-fr>`, and one for the source language, in place, with the next free ids.

    A tokenizer with such tokens puts the one of the asked language before every prompt (`encode_prompts`), in training
    and after it: the way of Johnson et al. 2017 (Google's multilingual translation, section 3) to ask for a language in
    the encoder.
    """
    tokenizer.add_special_tokens([_language_token(code) for code in sorted({SOURCE_LANGUAGE, *codes})])
    tokenizer.encode_special_tokens = True


def has_language_tokens(tokenizer: Tokenizer) -> bool:
    """Tell whether a tokenizer has language tokens; if so, the source language has one."""
    return tokenizer.token_to_id(_language_token(SOURCE_LANGUAGE)) is not None


def _language_token(code: str) -> str:
    return f"<to-{code}>"


def _choose_alphabet(texts: Sequence[str], room: int) -> list[str]:
    """Return the most frequent characters, if not all fit. (Among equally frequent ones the library's own choice
    depends on its hash table and differs from run to run.)"""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.replace(" ", "\u2581"))
    return [] if len(counts) <= room else sorted(counts, key=lambda character: (-counts[character], character))[:room]


def read_training_texts(data: Path, languages: Collection[str]) -> Iterator[str]:
    """Read what a tokenizer is trained on: target and prompt of each annotation of a data set in these languages."""
    for annotations in ShardReader(data).annotations():
        for annotation in annotations:
            if annotation.language in languages:
                yield annotation.text
                yield prompt_of(annotation)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a tokenizer.json. The tokenizer never cuts or pads, and reads special tokens that a text spells out as text.

    Raises:
        DamagedError: its folder has a digest of it, and it is another.
        ValueError: no such file, or not a tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such tokenizer file")
    text = read_text(path, max_bytes=_MAX_BYTES)
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException as error:  # for hostile files the library raises a bare Exception or a panic
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = first_line(error)
        raise ValueError(f"{path}: not a tokenizer of the tokenizers library ({reason})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def can_write(tokenizer: Tokenizer, text: str) -> bool:
    """Tell whether a tokenizer can encode all characters of a text. The tokenizer of a micro model knows only the words
    or letters of its data."""
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
    return unknown not in tokenizer.encode(text, add_special_tokens=False).ids


def choose_writable(tokenizer: Tokenizer, prefixes: Mapping[str, str]) -> dict[str, str]:
    """Return language code -> prefix, of those prefixes that a tokenizer can encode."""
    return {code: words for code, words in prefixes.items() if can_write(tokenizer, words)}


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, without added ids; `<mask>` or `<eos>` spelt out in a text is ordinary text."""
    tokenizer.encode_special_tokens = True  # the library forgets it when a tokenizer is copied to another process
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[str], *, must_know: bool = True) -> list[list[int]]:
    """Return the token ids of prompts, without a model's frame: the language token of each, if the tokenizer has such
    tokens, then those of the text.

    Args:
        must_know, Raises: as in `find_language_token`.
    """
    tokens = [find_language_token(tokenizer, prompt, must_know=must_know) for prompt in prompts]
    return [[*first, *ids] for first, ids in zip(tokens, encode_texts(tokenizer, prompts), strict=True)]


def find_language_token(tokenizer: Tokenizer, prompt: str, *, must_know: bool = True) -> list[int]:
    """Return the id that stands before a prompt, in a list: the token of the language that it asks for. The list is
    empty if the tokenizer has no language tokens.

    Args:
        must_know: False: empty for a language without a token too, for prompts that nobody asks the model.

    Raises:
        ValueError: there are such tokens, but none for this language, or the prompt asks for no language.
    """
    if not has_language_tokens(tokenizer):
        return []
    code = find_asked_language(prompt)
    token = None if code is None else tokenizer.token_to_id(_language_token(code))
    if token is not None:
        return [token]
    if not must_know:
        return []
    known = ", ".join(other for other in LANGUAGES if tokenizer.token_to_id(_language_token(other)) is not None)
    if code is not None:
        raise ValueError(
            f"no language token for {code!r}, which the model needs in a prompt: there are those of {known}"
        )
    raise ValueError(
        f"the prompt {prompt[:40]!r} asks for no language, and the model reads a token of the asked one ({known}): "
        "begin it with a sentence such as 'The target language is French. '"
    )


def encode_with_gaps(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Return the token ids of texts with a `<mask>` token between each two of them.

    Raises:
        ValueError: the tokenizer has no such token.
    """
    mask = tokenizer.token_to_id(SPECIAL_TOKENS[MASK])
    if mask is None:
        raise ValueError("the tokenizer has no <mask> token, which the masking of source words needs")
    first, *others = encode_texts(tokenizer, texts)
    return first + [token for ids in others for token in (mask, *ids)]
