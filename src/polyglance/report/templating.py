"""Pages from the templates of this package; all texts of users are escaped."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import polyglance.report.laws as laws
import polyglance.report.wording as wording
from polyglance import __version__
from polyglance.files import check_output_file

__all__ = ["check_page_name", "read_asset", "render_page"]

_ENDINGS = (".html", ".htm")
_LOADER = jinja2.PackageLoader("polyglance.report")
_ENVIRONMENT = jinja2.Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def check_page_name(option: str, path: Path) -> None:
    """Refuse a name that is no page's, before anything is computed: other files with its stem may be written beside it.

    Raises:
        ValueError: another extension than .html, or a file that cannot be written.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"{option} {path}: expected a file name that ends in .html")
    check_output_file(path, option, _ENDINGS)


def render_page(template: str, **context: Any) -> str:
    """Fill in a template. It can call the functions of `wording` and of `laws` (as `law`), and gets the style sheet."""
    return _ENVIRONMENT.get_template(template).render(
        wording=wording, law=laws, version=__version__, style=Markup(read_asset("style.css")), **context
    )


def read_asset(name: str) -> str:
    """Return the text of a file beside the templates."""
    return _LOADER.get_source(_ENVIRONMENT, name)[0]
