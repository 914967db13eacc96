"""Columns of a table, or keys of a record, that hold ids and texts: told by their names or as the user says."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from polyglance.data.texts.chat_answers import CONVERSATION_KEYS, take_answer
from polyglance.data.texts.languages_of_texts import LANGUAGE_KEYS, is_in_language
from polyglance.data.texts.text_set import Id, ReadOptions, TextRole, name_type
from polyglance.language_tags import LanguageTag, parse_language_tag

__all__ = [
    "TextColumns",
    "choose_columns",
    "find_column_tag",
    "find_other_ids",
    "is_id_name",
    "is_known_name",
    "list_texts",
    "parse_id",
    "parse_list",
    "parse_object",
    "parse_texts",
    "parse_texts_by_language",
]


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


# In order: the first that is there is taken. `id` of a COCO annotation is its own, so the image's is first.
# `__index_level_0__` is the index of a frame of pandas in Parquet.
_ID_NAMES = _split(
    """
    question_id image_id imageid img_id imgid cocoid coco_id image_key video_id audio_id segment_id
    seg_id sample_id sentence_id example_id sent_id doc_id custom_id request_id id ids uid uuid key
    file_name filename file_path filepath file image_path image_file image_name image img path
    audio video name index idx guid qid line line_number index_level_0
    """
)
_FILE_NAMES = frozenset(_split("file_name filename file_path filepath image_path image_file image_name"))
_PREDICTION_WORDS = frozenset(
    _split(
        """
    prediction predictions predicted pred preds hypothesis hypotheses hyp hyps generated generation
    generations output outputs answer answers response responses candidate candidates mt system model
    result results decoded resps
    """
    )
)
_REFERENCE_WORDS = frozenset(
    _split(
        """
    reference references ref refs target targets gold golden label labels truth gt groundtruth human
    original answers
    """
    )
)
_TEXT_WORDS = frozenset(
    _split(
        """
    texts text caption captions sentence sentences description descriptions raw translation translations
    comment comments transcript title content
    """
    )
)
_NOT_TEXT = frozenset(
    _split(
        """
    number num count length tokens tokenized tokids score scores id ids lang language locale source src prompt question
    size width height time date path url file name type category class split prob probability logprob confidence
    """
    )
)
_WEAK_WORDS = frozenset(_split("mt system model result results label labels human original"))
"""Words of either role that also name other columns: the model of a row, the class of its image, its size. They count
where no column has a plainer name, or beside a word of texts (`human_caption`)."""


@dataclass(frozen=True, kw_only=True)
class TextColumns:
    """Columns that were found, or named by the user."""

    id: str | None
    """Column of the ids; None: ids are positions."""
    texts: tuple[str, ...]
    """Columns of texts, several where each holds one reference."""

    def used(self, options: ReadOptions) -> frozenset[str]:
        """Return the options that had an effect, columns of texts one by one."""
        used = {f"text_column {name}" for name in self.texts if name in options.text_column}
        return frozenset(used | ({"id_column"} if self.id is not None and self.id == options.id_column else set()))

    def describe(self, *, kind: str = "column") -> str:
        """Return a line for people: what is taken from where."""
        texts = ", ".join(repr(name) for name in self.texts)
        ids = f"ids from the {kind} {self.id!r}" if self.id is not None else "no ids (rows count)"
        several = f"{kind}s" if len(self.texts) > 1 else kind
        return f"{ids}, texts from the {several} {texts}"


def choose_columns(names: Sequence[str], options: ReadOptions, where: str, *, kind: str = "column") -> TextColumns:
    """Choose the column of ids and the columns of texts: those that the user names, where they are there.

    Args:
        names: all columns, in order.
        kind: what the names are, for messages.

    Raises:
        ValueError: no column or several may be the one.
    """
    id_column = _choose_id(names, options)
    rest = [name for name in names if name != id_column]
    if texts := tuple(name for name in options.text_column if name in names):
        return TextColumns(id=id_column, texts=texts)
    texts = _choose_texts(rest, options.role, options.language)
    if not texts and len(rest) == 1 and (id_column is not None or len(names) == 1) and not is_id_name(rest[0]):
        texts = (rest[0],)
    texts = texts or tuple(name for name in rest if kind == "key" and name in CONVERSATION_KEYS)[:1]
    if not texts or (len(texts) > 1 and not _are_numbered(texts)):
        problem = f"which {kind} holds the texts is not clear" if texts else f"no {kind} has the name of a text"
        wanted = f" ({', '.join(options.text_column)} is not there)" if options.text_column else ""
        raise ValueError(f"{where}: {problem}{wanted}; found: {', '.join(names)}; name it with --text-column")
    return TextColumns(id=id_column, texts=texts)


def find_other_ids(columns: TextColumns, records: Sequence[Mapping[str, Any]]) -> dict[str, list[Id]]:
    """Return the other columns that name the images of records, such as `filename` beside `img_id`: name -> ids."""
    names = [name for name in (records[0] if records else ()) if _plain(name) in _FILE_NAMES and name != columns.id]
    others: dict[str, list[Id]] = {}
    for name in names:
        values = [record.get(name) for record in records]
        texts: list[Id] = [value for value in values if isinstance(value, str) and value.strip()]
        if name not in columns.texts and len(texts) == len(records):
            others[name] = texts
    return others


def is_known_name(name: str, role: TextRole = "predictions") -> bool:
    """Tell whether a cell of a first row is the name of a column of ids or texts."""
    return is_id_name(name) or (len(name.split()) <= 2 and len(name) < 40 and bool(_choose_texts([name], role)))


def _choose_id(names: Sequence[str], options: ReadOptions) -> str | None:
    if options.id_column in names:
        return options.id_column
    known = {_plain(name): name for name in reversed(names) if name not in options.text_column}
    return next((known[name] for name in _ID_NAMES if name in known), None)


def is_id_name(name: str) -> bool:
    """Tell whether a name is that of a column of ids."""
    return _plain(name) in _ID_NAMES


def _plain(name: str) -> str:
    """Return the name in small letters, with `_` between its words: `image/key` and `ImageKey` are image_key."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"\W+", "_", spaced).strip("_").lower()


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"_+|(?<=\D)(?=\d)", _plain(name)) if word and not word.isdigit()]


def _choose_texts(names: Sequence[str], role: TextRole, language: str = "") -> tuple[str, ...]:
    """Choose the columns whose names fit the role best: its own words, words of texts or the language's code, words
    that name other things too, then the other role's."""
    own, other = (
        (_PREDICTION_WORDS, _REFERENCE_WORDS) if role == "predictions" else (_REFERENCE_WORDS, _PREDICTION_WORDS)
    )
    words = {name: set(_words(name)) for name in names}
    candidates = [name for name in names if not words[name] & _NOT_TEXT]
    mine = tuple(name for name in candidates if words[name] & own)
    strong = tuple(name for name in mine if words[name] & (_TEXT_WORDS | own - _WEAK_WORDS))
    neutral = tuple(name for name in candidates if words[name] & _TEXT_WORDS and not words[name] & (own | other))
    theirs = tuple(name for name in candidates if words[name] & other)
    of_language = tuple(name for name in candidates if language and _names_language(name, language))
    bare = tuple(name for name in of_language if not words[name] & (own | other | _TEXT_WORDS))
    if neutral and _plain(bare[0] if bare else "") == "no":
        bare = ()  # the number of a row, beside its text
    chosen = strong or (*neutral, *bare) or mine or theirs
    if len(chosen) > 1 and not _are_numbered(chosen):
        narrow = tuple(name for name in chosen if name in of_language)
        if narrow and not (neutral and bare and not strong):
            return narrow
        if neutral and bare and not strong:
            return chosen
        # The first word that stands alone, `caption` beside `raw_caption`; else they are not clear.
        alone = [
            name for word in ("texts", "text", "caption", "filtered_resps") for name in chosen if _plain(name) == word
        ]
        return tuple(alone[:1]) or chosen
    return chosen


def _names_language(name: str, language: str) -> bool:
    tag = find_column_tag(name)
    return tag is not None and is_in_language(tag.tag, language)


def find_column_tag(name: str) -> LanguageTag | None:
    """Find the language in the name of a column: the tag alone, numbered, or beside words of texts (`de`, `de_1`,
    `caption_de`, `text-pt-BR`); None if there is none."""
    if (tag := parse_language_tag(name)) is not None:
        return tag
    known = _TEXT_WORDS | _PREDICTION_WORDS | _REFERENCE_WORDS
    rest = [word for word in _plain(name).split("_") if not word.isdigit() and word not in known]
    return parse_language_tag("-".join(rest)) if 0 < len(rest) <= 3 else None


def _are_numbered(names: Sequence[str]) -> bool:
    """Tell whether names differ in a number only: caption_1, caption_2."""
    return len({re.sub(r"\d+", "#", name) for name in names}) == 1 and all(re.search(r"\d", name) for name in names)


def parse_id(value: Any, where: str) -> Id:
    """Check an id. A whole number that was written as a float, as pandas does, is that number; of an object (an image
    with its `id`, or with its `path`) the id inside it.

    Raises:
        ValueError: neither a whole number nor a text that is not empty.
    """
    found = value
    if isinstance(found, dict):
        inner = [found[key] for key in ("id", *_ID_NAMES) if isinstance(found.get(key), (int, str, float))]
        found = inner[0] if inner else found
    found = _decode(found)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, (int, str)) or found == "":
        shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
        raise ValueError(f"{where}: an id is a whole number or a text, not {shown}")
    return found


_INNER_KEYS = ("raw", "caption", "text", "sentence", "answer")
"""Keys of the text where a list holds objects: Karpathy's sentences, pycocoevalcap's captions, answers of VQA."""


def parse_texts(value: Any, where: str) -> tuple[str, ...]:
    """Take a text, a list of texts, a list of objects that hold one text each, or the answer of a chat model.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, dict | list):
        value = take_answer(value)
    texts = [_decode(_unwrap(one)) for one in (value if isinstance(value, list | tuple) else [value])]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong or not texts:
        problem = name_type(wrong[0]) if wrong else "an empty list"
        hint = ' (write "" where there is none)' if wrong and (wrong[0] is None or wrong[0] != wrong[0]) else ""
        raise ValueError(f"{where}: expected a text or a list of texts, got {problem}{hint}")
    return tuple(texts)


def _decode(value: Any) -> Any:
    """Return bytes in UTF-8, as older writers of Parquet leave texts, as a text; any other value as it is."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _unwrap(value: Any) -> Any:
    if isinstance(value, dict):
        return next((value[key] for key in _INNER_KEYS if isinstance(value.get(key), str)), value)
    return value


_STARTS_OF_LISTS = "[({a"
"""First characters of a list or an object that was written into one string."""


def list_texts(cell: Any) -> list[Any]:
    """List what a cell holds: a text, a list of texts or of objects with one text each, or a list in a string. What is
    no text stays as it is."""
    if isinstance(cell, str):
        if cell[:1] not in _STARTS_OF_LISTS and not cell[0].isspace():
            return [cell]
        if not cell.lstrip().startswith(("[", "(", "{", "array(")):
            return [cell]
        if cell.strip() in ("[]", "()"):
            return []
        found = parse_list(cell)
        if found is None and (objects := parse_object(cell)) is not cell:
            texts = list_texts(objects)
            return texts if all(isinstance(text, str) for text in texts) else [cell]
        return [cell] if found is None else list(found)
    items = cell if isinstance(cell, (list, tuple)) else [cell]
    # An object that names a language is no text: several of them are in several languages.
    return [one if isinstance(one, dict) and one.keys() & set(LANGUAGE_KEYS) else _unwrap(one) for one in items]


def parse_texts_by_language(cell: Any) -> Any:
    """Parse an object of language -> texts, or a list of objects that each name the language of their text
    (`[{"language": "en", "text": "a dog"}, ...]`) to such an object; what is neither stays as it is."""
    found = parse_object(cell)
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(one, dict) for one in found):
        return found
    texts: dict[str, list[Any]] = {}
    for one in found:
        languages = [one[key] for key in LANGUAGE_KEYS if isinstance(one.get(key), str)]
        if len(languages) != 1 or (text := _unwrap(one)) is one:
            return found
        texts.setdefault(languages[0], []).append(text)
    return texts


def parse_object(cell: Any) -> Any:
    """Parse an object, or a list of objects, that was written into one string, as JSON or as Python prints it; what is
    none stays as it is."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(("{", "[")) or "{" not in cell[:100]:
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        items = found if isinstance(found, list) else [found]
        return found if items and all(isinstance(item, dict) for item in items) else cell
    return cell


def parse_list(text: str) -> tuple[str, ...] | None:
    """Parse a list of texts that was written into one string, as Python, JSON or numpy prints it; None if it is none.

    numpy puts no commas between: `['a dog' 'a cat']`, which Python would take for one text.
    """
    stripped = text.strip()
    stripped = re.sub(r"^array\((.*?)(, dtype=\w+)?\)$", r"\1", stripped, flags=re.DOTALL)
    if len(stripped) < 2 or stripped[0] + stripped[-1] not in ("[]", "()"):
        return None
    inner = stripped[1:-1].strip()
    if not inner or inner[0] not in "'\"":
        return None
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(f"({inner}\n)").readline)
            if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
        ][1:-1]
        if any(token.type != tokenize.STRING and token.string != "," for token in tokens):
            return None
        if any(one.end == other.start and "," not in (one.string, other.string) for one, other in pairwise(tokens)):
            return None  # 'It''s', a quotation mark of a text and no end of one
        texts = tuple(ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    return texts if texts and all(isinstance(one, str) for one in texts) else None
