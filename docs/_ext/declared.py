"""Tables of what is declared in the sources: ``.. declared:: hyperparameters``.

::

    declaration ─► rows of text ─► list-table ─► the page

Invariant: a page holds no copy of a declaration, so that none can be behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dqlearn.stages.settings import HYPERPARAMETERS
from dqlearn.statistics import RoundReport, statistic_of
from dqlearn.table.history import SHOWN

Row = tuple[str, ...]


def hyperparameters() -> Iterator[Row]:
    """Yield the head, and a row for each hyperparameter of `QLearner`."""
    yield "Name", "Type", "Default", "What"
    for name, it in HYPERPARAMETERS.items():
        default = "" if it.default is None else f"``{it.default!r}``"
        yield f"``{name}``", it.kind.label, default, it.summary


def history() -> Iterator[Row]:
    """Yield the head, and a row for each variable of `history`."""
    yield "Variable", "Unit", "What"
    for name, it in SHOWN.items():
        yield f"``{name}``", it.unit, it.what


def report() -> Iterator[Row]:
    """Yield the head, and a row for each statistic of a round's report."""
    yield "Name", "Unit", "What"
    for it in fields(RoundReport):
        statistic = statistic_of(it)
        note = f"; {statistic.note}" if statistic.note else ""
        yield f"``{it.name}``", statistic.unit, statistic.what + note


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "history": history,
    "hyperparameters": hyperparameters,
    "report": report,
}


def list_table(rows: Iterator[Row]) -> str:
    """Return rows as reStructuredText; the first is the head."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in rows:
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in others)]
    return "\n".join(lines)


class Declared(SphinxDirective):
    """The table of a name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table."""
        self.env.note_reread()  # the sources may change when the page does not
        return self.parse_text_to_nodes(list_table(TABLES[self.arguments[0]]()))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("declared", Declared)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
