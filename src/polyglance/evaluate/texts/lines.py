"""Files of one text per line, and lines that look like something else, which are refused."""

import re
from collections.abc import Iterator

from polyglance.evaluate.texts.columns import parse_list
from polyglance.evaluate.texts.text_set import Entry, FormContent, ReadOptions, TextFile

__all__ = ["read_lines"]

_LEADING_ID = re.compile(r"^\s*([\w./-]*\d[\w./-]*?)(#\d+)?(\s+|[,;:|]\s*)\S")
"""A first word with a digit and something behind it: `IMG_7.jpg a dog`, `12: a dog`."""
_MANY = 3
"""Number of lines from which a pattern that all lines have is no chance."""
_AS_LINES = "--as-lines scores the lines as they stand"


def read_lines(file: TextFile, options: ReadOptions) -> FormContent:
    """Read one text per line; ids are line numbers from 1.

    Raises:
        ValueError: the lines look like a table, like markup, or as if each began with an id.
    """
    used = frozenset({"as_lines"}) if options.as_lines else frozenset()
    if not options.as_lines:
        for problem in _find_other_forms(file):
            raise ValueError(f"{file.path}: {problem}; {_AS_LINES}")
    entries: list[Entry] = [(number, (line,)) for number, line in enumerate(file.lines, 1)]
    return FormContent(entries=entries, layout="lines", used=used)


def _find_other_forms(file: TextFile) -> Iterator[str]:
    """Yield what the lines look like other than texts, with what helps."""
    lines = [line for line in file.lines if line.strip()]
    with_tab = sum("\t" in line for line in lines)
    if 2 * with_tab > len(lines):
        counts = [line.count("\t") for line in file.lines]
        usual = max(set(counts), key=counts.count)
        odd = next(number for number, count in enumerate(counts, 1) if count != usual)
        yield (
            f"looks like a table of {usual + 1} columns between tabs, but line {odd} has {counts[odd - 1] + 1}; mend it"
        )
    with_tags = sum(bool(re.search(r"</?(seg|doc|p|hyp|ref|tstset|refset)\b", line, re.IGNORECASE)) for line in lines)
    if 2 * with_tags > len(lines):
        yield "lines hold markup (<seg>); name the file .sgm or .xml with all its tags"
    for mark, name in (("|||", "an n-best list or a table between |||"), ("|", "a table between |")):
        if (
            len(lines) >= _MANY
            and len({line.count(mark) for line in lines} - {0}) == 1
            and all(mark in line for line in lines)
        ):
            yield f"looks like {name}; write it as a TSV or CSV with an id and a text"
    for ends, name in (("{}", "objects of Python"), ("[]", "lists")):
        if 2 * sum(line.strip()[0] + line.strip()[-1] == ends for line in lines) > len(lines) and not all(
            parse_list(line) for line in lines
        ):
            yield f"lines look like {name}; write them as JSON lines"
    ids = [_LEADING_ID.match(line) for line in lines]
    if len(lines) >= _MANY and all(ids):
        names = [match[1] + (match[2] or "") for match in ids if match]
        if len(set(names)) == len(names):
            yield (
                f"each line begins with what looks like an id ({names[0]!r}); write a tab behind it (--id-column and "
                "--text-column name columns)"
            )
