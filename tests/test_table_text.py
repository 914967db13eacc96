"""Tables as text: names of any kind stand in Markdown, LaTeX and CSV as they are, and none becomes a formula."""

import csv
import io

import pytest

from polyglance.table_text import escape_latex, escape_markdown, format_csv_rows

NAMES = ["=1+2", "+1", "-a", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "  =1", 'a"b', "a,b", "plain", "a=1"]


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_of_a_csv_is_a_formula(name: str) -> None:
    ((cell, number),) = csv.reader(io.StringIO(format_csv_rows([(name, -0.5)]), newline=""))
    assert number == "-0.5"
    assert cell.removeprefix("'") == name.replace("\r", "\n")
    assert cell.lstrip(" ")[0] not in "=+-@\t\r\n＝"


def test_names_are_escaped() -> None:
    assert escape_markdown("a|b_c*[x](y)`<b>`\n$1$\u202e") == r"a\|b\_c\*\[x\](y)\`\<b\>\` \$1\$"
    assert escape_latex("50%_a&b\\c{d}#$~^|\n\x00") == (
        r"50\%\_a\&b\textbackslash{}c\{d\}\#\$\textasciitilde{}\textasciicircum{}\textbar{}"
    )
