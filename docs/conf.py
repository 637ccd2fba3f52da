"""Sphinx: MyST pages, furo's look, the API reference from docstrings without importing the code."""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

project = "PixCrawler"
author = "the PixCrawler authors"
project_copyright = author
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

# autodoc only carries the event by which docstrings are read below.
extensions = ["myst_parser", "sphinx.ext.autodoc", "autoapi.extension"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"PixCrawler {release}"
# mypy finds imports that lead nowhere, and knows better.
suppress_warnings = ["autoapi.python_import_resolution"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autoapi_dirs = [str(ROOT / package) for package in ("shared", "pixcrawler")]
autoapi_root = "autoapi"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-module-summary"]
# What nobody calls from outside its own folder is read in the source.
autoapi_ignore = ["*/migrations/*", "*/local/*", "*/sample/*", "*/commands/*"]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _read_docstring)


def _read_docstring(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Docstrings are prose with `code` and drawings, not reStructuredText: say so in its words, in place."""
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = [*"\n\n".join(_paragraph(text) for text in paragraphs if text.strip()).split("\n"), ""]


def _paragraph(text: str) -> str:
    lines = text.strip("\n").split("\n")
    if any(re.match(r"\s|[-*+#>] |\d+[.)] |\W{3,}$", line) for line in lines):
        return "::\n\n" + "\n".join(f"    {line}" for line in lines)
    pieces = re.split(r"(`+[^`]+`+)", text.strip("\n"))
    return "".join(f"``{piece.strip('`')}``" if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(prose: str) -> str:
    return re.sub(r"([*|\\`]|_(?!\w))", r"\\\1", prose)
