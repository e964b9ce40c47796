"""Equations as MathML, made with the pages: browsers draw them without a script or a network.

::

    math of a page ─► latex2mathml ─► checked ─► <math>

Invariant: what browsers would not draw is a warning. latex2mathml lets commands that it does not
know through as text, and browsers leave out MathML's line breaks and all its alphabets but upright.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

UNDRAWN = re.compile(r'\\|>&<|linebreak=|mathvariant="(?!normal")')


def mathml(node: nodes.Element, display: str) -> str:
    """Return the MathML of a node; in a block, what limits max and min is below them."""
    tex = node.astext()
    if display == "block":
        tex = re.sub(r"\\(max|min)_", r"\\\1\\limits_", tex)
    markup = convert(tex, display=display)
    if UNDRAWN.search(markup):
        logger.warning("browsers cannot draw all of this as MathML: %s", tex, location=node)
    return markup


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write an equation within a line."""
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation of its own, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(mathml(node, "block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw the equations of HTML pages this way."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
