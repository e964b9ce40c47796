"""Sphinx configuration. The reference lists what ``dqlearn.__all__`` lists: no upkeep."""

from __future__ import annotations

import sys
from pathlib import Path

import dqlearn

EXTENSIONS = Path(__file__).parent / "_ext"
sys.path.insert(0, str(EXTENSIONS))

project = "dqlearn"
author = "the dqlearn developers"
copyright = f"2026, {author}"
version = release = dqlearn.__version__

extensions = [
    "declared",
    "mathml",
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "notebook_pages",
    "numpydoc",
    "pictures",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the numpydoc sections name the types
autosummary_ignore_module_all = False
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "force"  # a kept result could be that of an older dqlearn
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_ipywidgets_js = {}  # it would come from the network, to show progress bars that are full

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_search_scorer = str(EXTENSIONS / "scorer.js")
pygments_dark_style = "github-dark"
html_title = f"dqlearn {release}"
