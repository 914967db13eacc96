"""The page of `polyglance score --explain`: segments that move a score, with their tokens and matches."""

from collections.abc import Sequence
from pathlib import Path

from polyglance.evaluate.explain import Explanation
from polyglance.files import write_atomically
from polyglance.report.templating import check_page_name, render_page

__all__ = ["write_explanations"]


def write_explanations(explanations: Sequence[Explanation], out: Path) -> None:
    """Write a page that needs no other file.

    Raises:
        ValueError: not the name of a page.
    """
    check_page_name("--explain-page", out)
    write_atomically(out, render_page("explanation.html.j2", explanations=explanations))
