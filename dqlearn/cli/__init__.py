"""The command ``dqlearn``: learn a table, play with it, look at it, keep runs in order.

::

    train ENV  ──┐                    ┌─► q.zarr ──► watch, evaluate, info
                 ├─► QLearner.learn ──┤
    resume RUN ──┘        │ Ctrl-C    └─► run ──► watch, evaluate, resume
                          └──────────────►        runs list | info | tag | untag | expire
                                                       export ──► q.zarr

Invariant: what was learned is on disk before anything is said about it. Exit codes: 0 done; 1 an
error, in one line on stderr; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

from typing import Any

import click

from dqlearn.cli.learning import resume, train
from dqlearn.cli.looking import evaluate, info
from dqlearn.cli.runs import runs
from dqlearn.cli.watching import watch
from dqlearn.errors import DQLearnError
from dqlearn.text import printable

__all__ = ["main"]

_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns errors that are made for people into one line, and Ctrl-C into its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # somebody's `| head` has seen enough: Click leaves in silence
        except (DQLearnError, OSError, ImportError) as error:
            raise click.ClickException(printable(" ".join(str(error).split()))) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(_INTERRUPTED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="dqlearn")
def main() -> None:
    """Tabular Q-learning on Dask."""


for command in (train, resume, watch, evaluate, info, runs):
    main.add_command(command)
