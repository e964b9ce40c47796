"""Pictures that other pages show: ``{picture} tutorials/first-table 1`` is the first of that page.

::

    page ─► its images, as this builder shows them ─► a copy of the n-th

Invariant: a gallery has no pictures of its own, so that none of them can differ from its page. Nor
does a page show one plot in the place of another.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class picture(nodes.General, nodes.Element):
    """The place of a picture until all pages are read."""


class Picture(SphinxDirective):
    """The n-th picture of a page, counted from 1; `alt` where the page itself has none."""

    required_arguments = 2
    option_spec = {"alt": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Leave a place, and read this page anew whenever pages are made: others may change."""
        self.env.note_reread()
        page, number = self.arguments
        return [picture(page=page, number=int(number), alt=self.options.get("alt"))]


def find(app: Sphinx, place: picture) -> nodes.image:
    """Return a copy of the picture that belongs to a place."""
    page, number = place["page"], place["number"]
    shown = app.env.get_and_resolve_doctree(page, app.builder, tags=app.tags)
    images = [*shown.findall(nodes.image)]
    if not 1 <= number <= len(images):
        raise ExtensionError(f"picture {number} of {page}: it has {len(images)}")
    image = nodes.image(**images[number - 1].attributes)
    if place["alt"]:
        image["alt"] = place["alt"]
    return image


def put(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the pictures of a page into their places."""
    for place in [*doctree.findall(picture)]:
        place.replace_self(find(app, place))


def tell_of_twins(app: Sphinx, doctree: nodes.document) -> None:
    """Warn where a page shows one plot twice: each `eval-rst` block numbers its plots from 1."""
    images = doctree.findall(nodes.image)
    plots = Counter(image["uri"] for image in images if "plot-directive" in image["classes"])
    for uri, times in plots.items():
        if times > 1 and not uri.endswith("*"):  # which is for other builders
            message = "%s is shown twice: give its plots a filename-prefix"
            logger.warning(message, uri, location=app.env.docname)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_node(picture)
    app.add_directive("picture", Picture)
    app.connect("doctree-read", tell_of_twins)
    app.connect("doctree-resolved", put)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
