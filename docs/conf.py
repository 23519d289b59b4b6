"""The documentation as a site: `make docs` serves it, `make check` looks for broken links.

Its root is the repository's, so that links between pages are the same here as where the files are
read as they lie. README is the first page, and the list in it is the order of the others.
"""

from __future__ import annotations

import re
from typing import Any

project = "Penstock"
author = "The Penstock authors"
extensions = ["myst_parser"]
include_patterns = ["README.md", "docs/*.md", "ops/runbook.md", "ops/bench/README.md"]
root_doc = "README"
html_theme = "furo"
html_title = "Penstock"
html_extra_path = ["index.html"]
html_show_copyright = False
html_show_sphinx = False
myst_links_external_new_tab = True

myst_heading_anchors = 4
"""Down to this level headings can be linked to, by the names that GitHub gives them."""


def setup(app: Any) -> None:
    """Give the site its table of contents; a page that README does not link to is an error."""
    app.connect("source-read", _add_contents)


def _add_contents(_: Any, page: str, source: list[str]) -> None:
    if page == root_doc:
        pages = "\n".join(re.findall(r"\]\((\S+)\.md\)", source[0]))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
