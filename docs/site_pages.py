"""Collect the pages of the documentation site: the guides, and pages made from the code.

    python docs/site_pages.py out/site-pages

The command line's page holds the help of every verb, as its parser prints it. The page on Python lists the public names
of the packages; the site's generator fills in their docstrings. The page of examples shows the files in `examples/`, to
which links in the guides lead.
"""

import io
import os
import re
import shutil
import sys
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from textwrap import fill

import polyglance
from polyglance.cli import GROUPS, VERBS, main

ROOT = Path(__file__).parents[1]
MODULES = (
    "laws",
    "study",
    "model",
    "evaluate.score_predictions",
    "evaluate.score",
    "evaluate.caption",
    "data.importer",
    "data.shard",
    "mixture.dataset",
    "train.run",
    "train.config",
    "engines.protocol",
)
"""Modules whose public names are listed."""


def write_pages(folder: Path) -> None:
    """Write all pages into a folder."""
    pages = {path.name: _link_pages(path.read_text(encoding="utf-8")) for path in (ROOT / "docs").glob("*.md")}
    pages |= {
        "reference/command-line.md": write_command_line(),
        "reference/python.md": write_python(),
        "reference/examples.md": write_examples(),
        "reference/changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "reference/security.md": (ROOT / "SECURITY.md").read_text(encoding="utf-8").replace("docs/", "../"),
    }
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, folder)


def _link_pages(text: str) -> str:
    text = text.replace("](../SECURITY.md)", "](reference/security.md)")
    return re.sub(r"\]\(\.\./examples/([\w-]+)\.toml\)", r"](reference/examples.md#\1toml)", text)


def write_command_line() -> str:
    """Write the help of every verb, as `polyglance VERB --help` prints it on a terminal of 80 columns: pages have room
    for as many."""
    os.environ["COLUMNS"], os.environ["NO_COLOR"] = "80", "1"
    parts = ["# Command line\n"]
    group = None
    for words in VERBS:
        if len(words) == 2 and words[0] != group:
            parts.append(f"## {words[0]}\n\n{GROUPS[words[0]]}\n")
        level = "###" if len(words) == 2 else "##"
        group = words[0]
        parts.append(f"{level} polyglance {' '.join(words)}\n\n```text\n{_print_help(words)}\n```\n")
    return "\n".join(parts)


def _print_help(words: tuple[str, ...]) -> str:
    out = io.StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        main([*words, "--help"])
    lines = out.getvalue().strip().split("\n")  # a terminal wraps the description of the verb; a page does not
    return "\n".join(line if line.startswith(" ") else fill(line, 80) for line in lines)


def write_python() -> str:
    """Write the names of the package itself, then a section for each module, which the generator fills from the
    docstrings."""
    parts = [
        "# Python\n",
        "## polyglance\n",
        "`import polyglance` offers these names; each is loaded on first use.\n",
        "| name | what it is |\n|---|---|",
    ]
    for name in polyglance.__all__:
        summary = (getattr(polyglance, name).__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
        parts.append(f"| `{name}` | {' '.join(summary.split())} |")
    parts = ["\n".join(parts), ""]
    for name in (f"polyglance.{module}" for module in MODULES):
        module = import_module(name)
        parts.append(f"## {name}\n\n{(module.__doc__ or '').splitlines()[0]}\n")
        for public in module.__all__:
            where = getattr(getattr(module, public), "__module__", None) or name
            parts.append(f"::: {where if where.startswith('polyglance.') else name}.{public}\n")
    return "\n".join(parts)


def write_examples() -> str:
    """Write the files in `examples/` one after the other."""
    paths = sorted((ROOT / "examples").glob("*.toml"))
    texts = [f"## {path.name}\n\n```toml\n{path.read_text(encoding='utf-8').strip()}\n```\n" for path in paths]
    return "\n".join(["# Example files\n", *texts])


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
