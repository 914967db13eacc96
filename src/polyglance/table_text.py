"""Tables as text for papers, web pages and spreadsheets, with every name escaped.

Markdown and LaTeX characters are escaped. A cell of a CSV that a spreadsheet would read as a formula gets a leading
apostrophe, which spreadsheets do not show.
"""

import csv
import io
from collections.abc import Sequence

__all__ = [
    "escape_latex",
    "escape_markdown",
    "format_csv_rows",
    "format_latex_comment",
    "format_latex_line",
    "format_markdown_line",
    "is_formula",
]

_MARKDOWN = frozenset("\\`*_{}[]<>#|~&$")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters, also full-width ones, that make a spreadsheet read a cell as a formula."""


def escape_markdown(text: str) -> str:
    """Return a text on one line that Markdown shows literally, also in a cell of a table."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in _on_one_line(text))


def escape_latex(text: str) -> str:
    """Return a text on one line that LaTeX prints literally."""
    return "".join(_LATEX.get(character, character) for character in _on_one_line(text))


def format_markdown_line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table; the cells are Markdown."""
    return f"| {' | '.join(cells)} |"


def format_latex_line(cells: Sequence[str]) -> str:
    """Return a row of a `tabular`; the cells are LaTeX."""
    return " & ".join(cells) + r" \\"


def format_latex_comment(text: str) -> str:
    """Return a text as a comment of LaTeX, which ends with its line."""
    return f"% {_on_one_line(text)}"


def is_formula(text: str) -> bool:
    """Tell whether a spreadsheet would read a cell with this text as a formula."""
    return text.lstrip(" ").startswith(_FORMULA_STARTS)


def format_csv_rows(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV. Numbers are unchanged; texts that would be formulas get a leading apostrophe."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([[_defuse(cell) for cell in row] for row in rows])
    return file.getvalue()


def _on_one_line(text: str) -> str:
    """Return the text without line ends and control characters."""
    visible = "".join(character for character in text if character.isprintable() or character.isspace())
    return " ".join(visible.split())


def _defuse(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", "\n")  # the csv module writes a lone \r without quotes, and readers end a row there
    return f"'{text}" if is_formula(text) else text
