"""Lines of CSV and TSV as cells; whether cells are quoted is decided from the lines.

A CSV is quoted by the rules of RFC 4180. A TSV is written in one of two ways: Excel and Python quote cells as in a CSV;
most corpora do not quote at all, and a quotation mark is part of the text. If a TSV is read in the wrong way, texts
keep the quotation marks around them, or a mark that is never closed takes the following rows into its cell. So the
lines decide.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Literal, NamedTuple

__all__ = [
    "DELIMITERS",
    "Quoting",
    "Record",
    "are_ids",
    "are_row_names",
    "find_delimiter",
    "find_quoting",
    "is_series_header",
    "may_be_shifted",
    "parse_records",
    "split_line",
]

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
"""Extension -> what stands between cells."""
_OTHER_DELIMITERS = (";", "\t", "|")
"""Delimiters of tables whose first lines do not have the usual one."""
Quoting = Literal["auto", "csv", "none"]
"""`csv`: cells may be quoted as in a CSV; `none`: a quotation mark is part of its text; `auto`: `csv` for a CSV,
and for a TSV as its lines show."""

_MOST_WORDS = 2
"""Largest number of words in the name of a column below titles."""
_EXTENSION = re.compile(r"\w\.[a-zA-Z]\w{1,4}$")
_FIRST_NAMES = frozenset(("id", "image", "image_id", "img", "file", "file_name", "filename", "path", "key", "name"))
"""Names that often stand first in a header."""
_NUMBERED = re.compile(r"(^|[_ ])(id|index|no|nr|number|row|run|seed|step|epoch|#)$")
_ID_CELL = re.compile(r"[\w./:#?=&%~+-]*")
_QUOTED_CELL = re.compile('"([^"]*(?:""[^"]*)*)"')
_MAX_RECORD_LINES = 1000
"""Largest number of lines of a quoted cell. A mark that is not closed within them does not begin a quoted cell."""


class _Cell(NamedTuple):
    text: str
    is_quoted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The line, or the lines, of one row."""

    line: int
    """Number of the first line, from 1."""
    num_lines: int = 1
    cells: list[str]
    problem: str = ""
    """Why the line has no cells."""

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it but white space and delimiters."""
        return not self.problem and not any(cell.strip() for cell in self.cells)


class _UnreadableError(Exception):
    """A record that breaks the rules of quoting; if `is_open`, it may continue in the next line."""

    def __init__(self, message: str, *, is_open: bool) -> None:
        super().__init__(message)
        self.is_open = is_open


class _Lines:
    """Numbered lines of a file; lines that were taken can be returned."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._returned: list[str] = []
        self.number = 0
        """Number of the line that was taken last."""

    def take(self) -> str | None:
        line = self._returned.pop() if self._returned else next(self._lines, None)
        self.number += line is not None
        return line

    def give_back(self, lines: list[str]) -> None:
        self._returned += reversed(lines)
        self.number -= len(lines)


def split_line(line: str, delimiter: str, *, quoted: bool) -> list[str]:
    """Split a record of one line into its cells; empty if its quotes break the rules.

    Args:
        quoted: cells may be quoted as in a CSV.
    """
    if not quoted or '"' not in line:
        return line.split(delimiter)
    try:
        return [cell.text for cell in _split_quoted(line, delimiter)]
    except _UnreadableError:
        return []


def _split_quoted(text: str, delimiter: str) -> list[_Cell]:
    """Split a record at its delimiters. Blanks around a quoted cell (`1, "a dog"`) are none of its text."""
    cells: list[_Cell] = []
    position = 0
    while True:
        if text.startswith('"', position):
            match = _QUOTED_CELL.match(text, position)
            if match is None:
                raise _UnreadableError("a quotation mark that is not closed", is_open=True)
            position = _skip_blanks(text, match.end(), delimiter)
            cells.append(_Cell(match[1].replace('""', '"'), is_quoted=True))
            if position < len(text) and text[position] != delimiter:
                raise _UnreadableError("text after a closing quotation mark", is_open=False)
        elif (inner := _find_inner(text, position, delimiter)) is not None:
            cells.append(_Cell(inner[1].replace('""', '"'), is_quoted=True))
            position = _skip_blanks(text, inner.end(), delimiter)
        else:
            end = text.find(delimiter, position)
            end = len(text) if end < 0 else end
            cells.append(_Cell(text[position:end], is_quoted=False))
            position = end
        if position == len(text):
            return cells
        position += 1


def _find_inner(text: str, position: int, delimiter: str) -> re.Match[str] | None:
    """Return the quoted cell behind blanks, if a delimiter or the end follows it; None if the cell is not quoted."""
    start = _skip_blanks(text, position, delimiter)
    match = _QUOTED_CELL.match(text, start) if start > position else None
    if match is None:
        return None
    end = _skip_blanks(text, match.end(), delimiter)
    return match if end == len(text) or text[end] == delimiter else None


def _skip_blanks(text: str, position: int, delimiter: str) -> int:
    while position < len(text) and text[position] in " \t" and text[position] != delimiter:
        position += 1
    return position


def parse_records(lines: Iterable[str], delimiter: str, *, quoted: bool, trusted: bool = False) -> Iterator[Record]:
    """Yield the records of a file in order, including blank ones; together they cover every line.

    If a quotation mark is not closed, only its own line is lost.

    Args:
        lines: without `\\n` at their ends.
        quoted: cells may be quoted as in a CSV, and then have several lines.
        trusted: accept quoted cells of several lines even if these look like rows of the table.
    """
    source = _Lines(lines)
    width = 0
    while (line := source.take()) is not None:
        number = source.number
        if not quoted or '"' not in line:
            record = Record(line=number, cells=line.removesuffix("\r").split(delimiter))
        else:
            cells, num_lines, problem = _take_quoted(source, line, delimiter, width=0 if trusted else width)
            record = Record(line=number, num_lines=num_lines, cells=[cell.text for cell in cells], problem=problem)
        if not record.is_blank:
            width = width or len(record.cells)
        yield record


def _take_quoted(source: _Lines, line: str, delimiter: str, *, width: int) -> tuple[list[_Cell], int, str]:
    """Split the record that begins with `line`, with as many lines more as it needs: cells, lines, problem."""
    taken = [line]
    while True:
        try:
            cells = _split_quoted("\n".join(taken).removesuffix("\r"), delimiter)
        except _UnreadableError as error:
            problem = str(error)
            if error.is_open and _take_to_quote(source, taken):
                continue
        else:
            rows = [later for later in taken[1:] if _is_row(later, cells[0].text, delimiter, width)]
            if not rows:
                return cells, len(taken), ""
            problem = "a quotation mark that is not closed, or a cell that holds rows"
        source.give_back(taken[1:])
        return [], 1, problem


def _take_to_quote(source: _Lines, taken: list[str]) -> bool:
    """Take lines up to the next one with a quotation mark; return whether there is one."""
    while len(taken) < _MAX_RECORD_LINES and (line := source.take()) is not None:
        taken.append(line)
        if '"' in line:
            return True
    return False


def _is_row(line: str, first_cell: str, delimiter: str, width: int) -> bool:
    """Tell whether a line inside a quoted cell looks like a row of the table: it has as many cells and, where cells are
    separated by commas (which prose has too), a first cell of the same kind."""
    cells = split_line(line, delimiter, quoted=True)
    if width < 2 or len(cells) != width:
        return False
    return delimiter == "\t" or (_kind(first_cell) != "text" and _kind(cells[0]) == _kind(first_cell))


def _kind(cell: str) -> str:
    """Return the kind of a cell that may be a key: `number`, `.ext` of a file name, `text` for anything else."""
    cell = cell.strip()
    if cell.isdecimal():
        return "number"
    suffix = re.search(r"\.\w{1,5}$", cell)
    return suffix[0].lower() if suffix and " " not in cell else "text"


def find_quoting(read_lines: Callable[[], Iterable[str]]) -> tuple[bool, bool]:
    """Tell from its lines whether the cells of a TSV are quoted; return (quoted, every cell of text is quoted).

    A program that quotes cells quotes each one that contains a quotation mark. So a mark inside an unquoted cell, or a
    mark that is not closed, shows that the file does not quote; a doubled mark or a tab in quotes, that it does.

    Args:
        read_lines: yields the lines from the beginning.

    Raises:
        ValueError: some lines show the one, others the other.
    """
    if _is_quoted_throughout(read_lines()):
        return True, True
    source = _Lines(read_lines())
    with_quotes = without_quotes = width = 0
    while (line := source.take()) is not None:
        number = source.number
        if line.strip():
            width = width or line.count("\t") + 1
        if '"' not in line:
            continue
        cells, _, problem = _take_quoted(source, line, "\t", width=width)
        if problem or any('"' in cell.text and not cell.is_quoted for cell in cells):
            without_quotes = without_quotes or number
        elif any(cell.is_quoted and any(mark in cell.text for mark in ('"', "\n", "\t")) for cell in cells):
            with_quotes = with_quotes or number
    if with_quotes and without_quotes:
        raise ValueError(
            f"line {with_quotes} is quoted as in a CSV and line {without_quotes} is not; set quoting to 'csv' or 'none'"
        )
    return bool(with_quotes), False


def _is_quoted_throughout(lines: Iterable[str]) -> bool:
    """Tell whether every cell of a TSV with a letter in it is quoted, and no line breaks the rules."""
    source = _Lines(lines)
    num_quoted = 0
    while (line := source.take()) is not None:
        if '"' not in line:
            cells, problem = [_Cell(cell, is_quoted=False) for cell in line.split("\t")], ""
        else:
            cells, _, problem = _take_quoted(source, line, "\t", width=0)
        if problem or any(not cell.is_quoted and _is_word(cell.text) for cell in cells):
            return False
        num_quoted += sum(cell.is_quoted for cell in cells)
    return num_quoted > 0


def _is_word(cell: str) -> bool:
    return any(character.isalpha() for character in cell)


def find_delimiter(lines: Sequence[str], usual: str) -> str:
    """Find the delimiter of a table, the usual one or another.

    It is looked for in the first line that is not a comment. If that line is a title, it is looked for in the first
    line below that has a delimiter, provided that all further lines have as many.

    Args:
        lines: the first lines of the table.
        usual: the delimiter of its extension, which is also returned if no line has one.
    """
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    marks = (usual, *(mark for mark in _OTHER_DELIMITERS if mark != usual))
    if not lines or (found := next((mark for mark in marks if mark in lines[0]), "")):
        return found if lines else usual
    below = list(dropwhile(lambda line: " " in line.strip() and not any(mark in line for mark in marks), lines))
    for mark in marks if below else ():
        least = below[0].count(mark)
        is_header = all(len(cell.split()) <= _MOST_WORDS for cell in below[0].split(mark))
        if least and is_header and f"{mark} " not in below[0] and all(line.count(mark) >= least for line in below):
            return mark
    return usual


def is_series_header(cells: Sequence[str], below: Sequence[str]) -> bool:
    """Tell whether a record is the header that pandas writes for a series: an empty cell for the index, then the name
    of one column (`,english caption`).

    It is a header and not a title if the row below also has two cells and does not begin with the name of a column.
    """
    if len(cells) != 2 or len(below) != 2 or cells[0].strip() or not cells[1].strip():
        return False
    first = below[0].strip()
    return bool(first) and first.lower() not in _FIRST_NAMES


def are_row_names(header: Sequence[str], rows: Sequence[Sequence[str]], id_column: int | None = None) -> bool:
    """Tell whether the first cells are the names that R gives to rows and writes no name above: whole numbers, each
    once, with file names beside them, or with ids, or else counting from 0 or 1. Cells that begin with a blank are the
    ends of texts with a comma that is not quoted: in each row beside ids, in any row beside other cells.

    Where the last cells are all empty, these may be missing values of R, or each row may end with a delimiter. They are
    taken for missing values if the column of ids would hold different numbers; or if file names follow the first cells,
    and the first column is not called `id`, `row` or the like, which would hold the numbers itself.

    Args:
        header: the names, one less than each row has cells.
        rows: cells.
        id_column: place of the column of ids among the names; None: any column may hold them.
    """
    if not rows or any(len(cells) != len(header) + 1 for cells in rows):
        return False
    names = [cells[0].strip() for cells in rows]
    if not all(name.isascii() and name.isdecimal() for name in names) or len(set(names)) < len(names):
        return False
    if all(not cells[-1].strip() for cells in rows):
        beside = [cells[(id_column or 0) + 1].strip() for cells in rows]
        are_numbers = id_column is not None and all(map(str.isdecimal, beside)) and len(set(beside)) == len(beside)
        return are_numbers or (_are_files(beside) and not _may_hold_numbers(header[0]))
    places = range(len(header)) if id_column is None else [id_column]
    columns = [[cells[place + 1] for cells in rows] for place in places]
    if any(map(_are_files, columns)):
        return True
    begins = [any(cell[:1].isspace() for cell in cells[2:]) for cells in rows]
    may_end = not any(name[:1].isspace() for name in header[1:])
    if any(map(are_ids, columns)):
        return not (may_end and all(begins))
    return id_column is None and _count_on(names) and not (may_end and any(begins))


def may_be_shifted(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether rows with an empty last cell more than the header may begin with the names that R gives to rows: the
    first cells count from 0 or 1, and the header's first name is none of numbers of rows."""
    if not rows or any(len(cells) != len(header) + 1 or cells[-1].strip() for cells in rows):
        return False
    return _count_on([cells[0].strip() for cells in rows]) and not _may_hold_numbers(header[0])


def _may_hold_numbers(name: str) -> bool:
    """Tell whether a column of this name may number the rows."""
    return bool(_NUMBERED.search(name.strip().lower()))


def _count_on(names: Sequence[str]) -> bool:
    return any(list(names) == [str(number) for number in range(start, start + len(names))] for start in (0, 1))


def _are_files(column: Sequence[str]) -> bool:
    """Tell whether all cells end in the extension of a file."""
    return all(_EXTENSION.search(cell.strip()) for cell in column)


def are_ids(column: Sequence[str]) -> bool:
    """Tell whether cells are ids: no blanks, and a digit in each."""
    cells = [cell.strip() for cell in column]
    return all(
        cell.isascii() and _ID_CELL.fullmatch(cell) and any(character.isdigit() for character in cell) for cell in cells
    )
