"""``python -m dqlearn``: the command, with the current folder on Python's path."""

from __future__ import annotations

from dqlearn.cli import main

if __name__ == "__main__":
    main(prog_name="dqlearn")
