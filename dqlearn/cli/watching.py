"""Watching: one greedy episode of a stored table, as a sheet of frames.

::

    q.zarr, run ──► predict ─► step ─► "ansi" frame ─┐ as many side by side
                       ▲         │                   ├► as the terminal is wide
                       └─────────┘ until it ends ────┘

Invariant: the frames are those that Gymnasium's environment draws; the table only chooses.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import click
import gymnasium

from dqlearn.cli.looking import learner_of
from dqlearn.cli.options import Whole
from dqlearn.cli.places import at_option, trust_option
from dqlearn.learner.q_learner import QLearner

__all__ = ["watch"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BLANK = re.compile(r"(\x1b\[[0-9;]+m) (?=\x1b\[0m)")  # seen by its background alone
_GAP = "   "


@click.command()
@click.argument("path", metavar="TABLE|RUN")
@at_option("Of a RUN: the checkpoint to play with: latest, previous, best, a number, or a tag.")
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True, help="Of chance.")
@click.option("--steps", type=Whole(1), default=30, show_default=True, help="Frames, at most.")
@trust_option
def watch(path: str, at: str | int, seed: int, steps: int, trust: tuple[str, ...]) -> None:
    """Show a greedy episode of a stored TABLE, or of a checkpoint of a RUN, in the terminal.

    The environment must be one that can draw itself as text.
    """
    learner = learner_of(path, at, trust)
    frames, total, over = _episode(learner, seed, steps)
    coloured = sys.stdout.isatty()
    for line in _sheet(frames, shutil.get_terminal_size().columns):
        click.echo(line if coloured else _BLANK.sub(r"\1*", line))
    end = "the episode ends" if over else "and it goes on"
    click.echo(f"Return after {len(frames) - 1} steps: {total:.6g}; {end}")


def _episode(learner: QLearner, seed: int, steps: int) -> tuple[list[list[str]], float, bool]:
    """Play; return the frames in lines, the return, and whether it came to an end."""
    env = learner.make_env(render_mode="ansi")
    observation, _ = env.reset(seed=seed)
    frames, total, over = [_lines(env)], 0.0, False
    while not over and len(frames) <= steps:
        action, _ = learner.predict(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        frames.append(_lines(env))
        total, over = total + float(reward), terminated or truncated
    env.close()
    return frames, total, over


def _lines(env: gymnasium.Env[Any, Any]) -> list[str]:
    return str(env.render()).rstrip("\n").split("\n")


def _sheet(frames: Sequence[list[str]], columns: int) -> Iterator[str]:
    """Yield lines that show frames side by side, row after row."""
    width = max(_width(line) for frame in frames for line in frame)
    across = max(1, (columns + len(_GAP)) // (width + len(_GAP)))
    for first in range(0, len(frames), across):
        for parts in zip_longest(*frames[first : first + across], fillvalue=""):
            padded = (part + " " * (width - _width(part)) for part in parts)
            yield _GAP.join(padded).rstrip()
        yield ""


def _width(line: str) -> int:
    return len(_COLOUR.sub("", line))
