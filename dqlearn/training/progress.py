"""A progress bar over a run's transitions.

::

    42%|████▏     | 42.0M/100M [00:03<00:04, 13.9M transitions/s, epsilon 0.601, return 12.3]

Invariant: the bar waits for nothing. It is no callback: the learner passes each report to it on
arrival, rounds stay pipelined, and the bar only ever says what `History` says.
"""

from __future__ import annotations

from types import TracebackType

from tqdm.auto import tqdm

from dqlearn.events import RoundReport
from dqlearn.table.history import History

__all__ = ["ProgressBar"]


class ProgressBar:
    """A context manager that shows a bar, in a terminal or in a notebook, and closes it at the end.

    Parameters
    ----------
    total_timesteps : int
        Number of transitions to be made, counted from the run's beginning.
    history : History
        Where the recent mean return is read; a report is appended to it before it is shown.
    initial : int, default 0
        Number of transitions made already, when a run is resumed; they do not count in the rate.
    disable : bool, default False
        Whether to show nothing, at no cost.

    Examples
    --------
    >>> with ProgressBar(1000, History(), disable=True) as bar:
    ...     pass
    """

    def __init__(
        self, total_timesteps: int, history: History, *, initial: int = 0, disable: bool = False
    ) -> None:
        self._history = history
        self._bar = tqdm(
            total=total_timesteps,
            initial=initial,
            disable=disable,
            unit=" transitions",
            unit_scale=True,
            dynamic_ncols=True,
        )

    def update(self, report: RoundReport) -> None:
        """Update the bar from a report; it moves backwards when the run has gone back.

        Parameters
        ----------
        report : RoundReport
            The report of a round that has just arrived.
        """
        if self._bar.disable:
            return
        mean = self._history.recent_mean_return()
        self._bar.set_postfix_str(f"epsilon {report.epsilon:.3g}, return {mean:.4g}", refresh=False)
        self._bar.update(report.timesteps - self._bar.n)

    def close(self) -> None:
        """Show the last state and leave the line; more than once does no harm."""
        self._bar.close()

    def __enter__(self) -> ProgressBar:
        """Return the bar itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the bar, whatever happened."""
        self.close()
