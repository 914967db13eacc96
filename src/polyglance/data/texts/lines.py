"""Files of one text per line, and lines that look like something else, which are refused."""

import re
from collections.abc import Iterator, Sequence

from polyglance.data.texts.columns import is_known_name, parse_list
from polyglance.data.texts.text_set import Entry, FormContent, ReadOptions, TextFile

__all__ = ["BINARY_SUFFIXES", "read_line_texts"]

_MANY = 3
"""Number of lines from which a pattern that all lines have is no chance."""
_MOST = 0.9
"""Share of the lines that have a label where a file is a log or a list of labels and texts."""
_FEW_LABELS = 6
_AS_LINES = "--as-lines scores the lines as they stand"
_MARKED_UP = frozenset(
    f".{name}"
    for names in ("yaml yml ini cfg toml html htm xhtml md rst tex srt vtt ass", "xlf xliff po tmx log py ipynb")
    for name in names.split()
)
BINARY_SUFFIXES = frozenset(
    f".{name}"
    for names in ("xls xlsx ods doc docx odt pdf npy npz pkl pickle", "pth bin h5 safetensors zip tar 7z db")
    for name in names.split()
)
"""Extensions of files that hold no text. `.pt` is not among them: texts in Portuguese are called so, too."""
_OTHER_SUFFIXES = _MARKED_UP | BINARY_SUFFIXES
"""Extensions of files that hold something else than a text on each line."""

_NAME = r"[\w./-]*[\d_/][\w./-]*?"
_LEADING_IDS = (
    # IMG_7.jpg a dog; 12: a dog; [3] a dog; 4) a dog; #5 a dog
    re.compile(rf"^\s*[\[(#<]?({_NAME})(#\d+)?([\])>.:]*\s+|\s*[,;:|=]\s*)\S"),
    re.compile(r"""^\s*["']?([^\s"',;=]+)["']?\s*=\s*\S()"""),  # name = "a dog"
    re.compile(r"""^\s*(?:["']([^"']+)["']|((?:(?!["',;])[!-~])+))[,;](?=\S)"""),  # "name","a dog"
)
"""A beginning that may be an id; the first group, or the second, is the id."""
_TRAILING_ID = re.compile(r"(?:[\s,;|]|\s[(\[])([\w./:=+-]*\d[\w./:=%+-]*)[)\]]?\s*$")
"""An end that may be an id or a number: `a dog img7.jpg`, `a dog (spk1-utt3)`, `a dog -0.73`."""
_TIME = r"\W?\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ,_]+\d{1,2}:\d{2}"
_LABEL = re.compile(
    rf"^\s*(?:{_TIME}|(?P<numbered>[A-Za-z_]+[ _-]?)\d+\s?[:=]|(?P<word>[A-Za-z_]+(?: [A-Za-z]+)?)\s?[:=](?!//)"
    rf"(?P<next>[A-Za-z]+:)?)"
)
"""A time, or a word before a colon: `PRED 3: a dog`, `HYP: a dog`, `INFO:root:a dog`."""
_BULLET = re.compile(r"^\s*[-*•·–—>+]\s+\S")
_BYTES = re.compile(r"""^\s*[bru](?P<quote>['"]).*(?P=quote)\s*$""")
_ELEMENT = re.compile(r"^\s*<([A-Za-z][\w:-]*)\b[^>]*>.*</\1\s*>\s*$")
_TAG = re.compile(r"</?(seg|doc|p|hyp|ref|tstset|refset|tr|td|li|div|trans-unit|source|target)\b", re.IGNORECASE)
_CUE = re.compile(r"^\s*(?:\d+:)?\d+:\d{2}[.,]\d{3} --> ")


def read_line_texts(file: TextFile, options: ReadOptions) -> FormContent:
    """Read one text per line; ids are line numbers from 1.

    Raises:
        ValueError: the lines look like a table, like markup, or as if each began or ended with an id; or the file is
            called as one of another form.
    """
    used = frozenset({"as_lines"}) if options.as_lines else frozenset()
    if not options.as_lines:
        if file.suffix in _OTHER_SUFFIXES:
            raise ValueError(
                f"{file.path}: files of {file.suffix} are not read; write JSON lines, a table or a text on each line; "
                f"{_AS_LINES}"
            )
        for problem in _find_other_forms(file.lines):
            raise ValueError(f"{file.path}: {problem}; {_AS_LINES}")
    entries: list[Entry] = [(number, (line,)) for number, line in enumerate(file.lines, 1)]
    notes = () if options.as_lines else tuple(_find_header(file))
    return FormContent(entries=entries, layout="lines", notes=notes, used=used)


def _find_header(file: TextFile) -> Iterator[str]:
    """Tell a first line that is no text; it counts as one."""
    first = file.lines[0].strip() if file.lines else ""
    if len(file.lines) > _MANY and (first.startswith("#") or (" " not in first and is_known_name(first))):
        yield f"{file.path}: line 1 ({first[:40]!r}) looks like a header or a comment; it is scored as a text"


def _find_other_forms(all_lines: Sequence[str]) -> Iterator[str]:
    """Yield what the lines look like other than texts, with what helps."""
    lines = [line for line in all_lines if line.strip()]
    yield from _find_tables(all_lines, lines)
    with_tags = sum(bool(_TAG.search(line)) for line in lines)
    elements = [match[1].lower() for line in lines if (match := _ELEMENT.match(line))]
    if 2 * with_tags > len(lines) or 2 * sum(name != "s" for name in elements) > len(lines):
        yield "lines hold markup (<seg>); name the file .sgm or .xml with all its tags"
    if sum(bool(_CUE.match(line)) for line in lines) >= _MANY:
        yield "looks like subtitles with their times; write the texts alone, one on each line"
    for ends, name in (("{}", "objects of Python"), ("[]", "lists")):
        if 2 * sum(line.strip()[0] + line.strip()[-1] == ends for line in lines) > len(lines) and not all(
            parse_list(line) for line in lines
        ):
            yield f"lines look like {name}; write them as JSON lines"
    if len(lines) >= _MANY:
        yield from _find_common_starts(lines)


def _find_tables(all_lines: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    with_tab = sum("\t" in line for line in lines)
    if 2 * with_tab > len(lines):
        counts = [line.count("\t") for line in all_lines]
        usual = max(set(counts), key=counts.count)
        odd = next(number for number, count in enumerate(counts, 1) if count != usual)
        yield (
            f"looks like a table of {usual + 1} columns between tabs, but line {odd} has {counts[odd - 1] + 1}; mend it"
        )
    for mark, name, least in (("|||", "an n-best list or a table between |||", 1), ("|", "a table between |", _MANY)):
        if len(lines) >= least and all(mark in line for line in lines):
            usual = len({line.count(mark) for line in lines}) == 1
            if usual or mark == "|||":
                split = f" (several references: --as-lines --split-texts '{mark}')"
                yield f"looks like {name}; write it as a TSV or CSV with an id and a text{split}"
    cells = lines[0].split(",") if lines else []
    if len(cells) > 1 and all(is_known_name(cell.strip(' "')) for cell in cells):
        yield f"line 1 ({lines[0][:40]!r}) looks like the header of a table between commas; name the file .csv"


def _find_common_starts(lines: Sequence[str]) -> Iterator[str]:
    """Yield what all lines begin or end with."""
    pairs = [parse_list(line) for line in lines]
    if all(pair is not None and len(pair) == 2 and " " not in pair[0] for pair in pairs):
        yield "each line looks like a pair of an id and a text; write JSON lines"
    if all(map(_BYTES.match, lines)):
        yield f"each line looks like a value of Python ({lines[0][:20]!r}); write the texts without b and quotes"
    labels = [match for match in map(_LABEL.match, lines) if match and _is_label(match)]
    if (
        len(labels) >= _MOST * len(lines)
        and len({match["numbered"] or match["word"] for match in labels}) <= _FEW_LABELS
    ):
        yield f"each line begins with a label or a time ({labels[0][0].strip()!r}); write the texts alone"
    if all(map(_BULLET.match, lines)):
        yield f"each line begins with the mark of a list ({lines[0].strip()[0]!r}); write the texts alone"
    for pattern in _LEADING_IDS:
        matches = [match for match in map(pattern.match, lines) if match]
        names = {f"{match[1] or ''}{match[2] or ''}" for match in matches}
        if len(matches) == len(names) == len(lines):
            first = matches[0][1] or matches[0][2]
            yield (
                f"each line begins with what looks like an id ({first!r}); write a tab behind it (--id-column and "
                "--text-column name columns)"
            )
    ends = [match for match in map(_TRAILING_ID.search, lines) if match]
    if len(ends) == len(lines) and 2 * len({match[1] for match in ends}) > len(lines):
        yield (
            f"each line ends with what looks like an id or a score ({ends[0][1]!r}); write a tab before it "
            "(--id-column and --text-column name columns)"
        )


def _is_label(match: re.Match[str]) -> bool:
    """Tell whether the word before a colon is one that tools write: captions may begin so, too (`flag: Germany`)."""
    word = match["word"]
    return word is None or word.isupper() or match["next"] is not None or is_known_name(word)
