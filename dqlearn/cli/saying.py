"""What the commands print: lines for people, or one JSON document for programs.

::

    facts ──► two columns, sentences     stdout
          └─► --json: one document       stdout; whatever else is said goes to stderr

Invariant: both say the same; what has no number in JSON (NaN, infinities) is null there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click
import numpy as np

from dqlearn.stages.evaluation import EvaluationResult
from dqlearn.text import printable

__all__ = ["echo_json", "echo_lines", "echo_mean", "echo_rows", "json_option", "played"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, for programs."
)


def echo_json(document: Mapping[str, Any]) -> None:
    """Print a document."""
    click.echo(json.dumps(_plain(document), indent=2, allow_nan=False, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def echo_lines(lines: Mapping[str, str]) -> None:
    """Print names and what they stand for, in two columns."""
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {printable(text)}")


def echo_rows(rows: Sequence[tuple[str, ...]], numbers: int) -> None:
    """Print rows; the first columns are numbers, and go to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        texts = (
            text.rjust(width) if column < numbers else text.ljust(width)
            for column, (text, width) in enumerate(cells)
        )
        click.echo(printable("  ".join(texts).rstrip()))


def echo_mean(result: EvaluationResult) -> None:
    """Print what greedy episodes returned."""
    click.echo(
        f"Mean return of {result.n_episodes:,} greedy episodes: "
        f"{result.mean:.4g} +- {result.standard_error:.2g} (standard error)"
    )
    if result.n_truncated:
        click.echo(f"Cut off before their end: {result.n_truncated:,} episodes")


def played(result: EvaluationResult) -> dict[str, Any]:
    """Return what greedy episodes returned, as a document."""
    return {
        "episodes": result.n_episodes,
        "mean_return": result.mean,
        "standard_error": result.standard_error,
        "quantiles": {f"{q:g}": result.quantile(q) for q in QUANTILES},
        "mean_length": result.mean_length,
        "n_truncated": result.n_truncated,
    }
