"""dqlearn against other ways to do it: transitions per second, time to an error, memory.

::

    a process each   dqlearn   plain-loop  ...  queues     samples take turns, so that whatever else
    repeat 1            A          B              C        the machine does falls on all alike
    repeat 2            A          B              C

All learn the same problem with the same gamma, epsilon and learning rate. A sample is the same
number of transitions for all or, for a competitor that would take long, what it makes in a few
seconds. The error is that of :mod:`time_to_error`; those who are much slower than dqlearn do not
race.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any

import click
from competitors.bars import draw
from competitors.catalogue import OURS, PEERS, Competitor
from competitors.process import Remote
from harness import Report, interleave, options, rate, ratios, timed
from problems import problem_named
from time_to_error import ERROR, race

from dqlearn import exact

US = "dqlearn"
PROBLEMS = ("torus", "garnet", "taxi", "big")
MIB = 2**20
RATE, SECONDS, MEMORY = "transitions / s, millions", "seconds to the error", "peak memory, MiB"


class Comparison:
    """One problem, and all who learn it.

    Parameters
    ----------
    report : Report
        Where figures go.
    problem : str
        Name of the problem.
    peers : mapping
        Who learns it besides dqlearn.
    **settings
        Options of the command.
    """

    def __init__(
        self, report: Report, problem: str, peers: Mapping[str, Competitor], **settings: Any
    ) -> None:
        self.report, self.problem, self.settings = report, problem, settings
        self.panels: dict[str, dict[str, float]] = {RATE: {}, SECONDS: {}, MEMORY: {}}
        self._field = {US: OURS, **peers}

    def measure(self) -> None:
        """Measure memory while all warm up, transitions per second, and seconds to the error."""
        with self._started() as remotes:
            self._add("memory before learning", [remotes[US].memory() / MIB], "MiB")
            rates = self._rates(remotes)
            if self.problem in ERROR and self.settings["races"]:
                self._race({name: remotes[name] for name in self._racing(rates)})

    def _rates(self, remotes: Mapping[str, Remote]) -> dict[str, list[float]]:
        """Add transitions per second."""
        sizes = {name: self._warmed(remote) for name, remote in remotes.items()}
        cases = {
            name: partial(rate, partial(r.advance, sizes[name])) for name, r in remotes.items()
        }
        rates = interleave(cases, self.settings["repeats"])
        for name, samples in rates.items():
            millions = [sample / 1e6 for sample in samples]
            self._add(name, millions, "M/s", panel=RATE)
        for name in self._peers(rates):
            self._add(f"{US} / {name}", ratios(rates[US], rates[name]), "x", against=name)
        return rates

    def _race(self, remotes: Mapping[str, Remote]) -> None:
        """Add the seconds to the error, once for each seed."""
        problem = problem_named(self.problem, self.settings["tiny"])
        exact_value = exact.solve(problem.env, problem.gamma, tolerance=1e-6).value
        error = self.settings["error"] or ERROR[self.problem]
        times: dict[str, list[float]] = {name: [] for name in remotes}
        for seed in range(self.settings["races"]):
            for remote in remotes.values():
                remote.make(seed)
            step, limit = self.settings["step"], self.settings["limit"]
            for name, runner in race(remotes, exact_value, error, step, limit).items():
                times[name].append(runner.seconds)
        for name, samples in times.items():
            self._add(f"{name}: to {error:.0%}", samples, "s", panel=SECONDS)
        for name in self._peers(times):
            label = f"{name} / {US}: to {error:.0%}"
            self._add(label, ratios(times[name], times[US]), "x", against=name)

    def _racing(self, rates: Mapping[str, Sequence[float]]) -> list[str]:
        """Return who is not too slow."""
        least = median(rates[US]) / self.settings["slowest"]
        racing = [name for name, samples in rates.items() if median(samples) >= least]
        for name in rates:
            if name not in racing:
                click.echo(f"{self.problem}: {name} does not race, see --slowest")
        return racing

    def _warmed(self, remote: Remote) -> int:
        """Warm a competitor up, look at its memory, and return the size of its samples."""
        remote.make(0)
        with remote.watched() as seen:
            size = sample_size(remote, self.settings["transitions"], self.settings["seconds"])
        peak = [max(seen) / MIB]
        self._add(f"{remote.name}: peak memory", peak, "MiB", panel=MEMORY)
        return size

    def _peers(self, samples: Mapping[str, Any]) -> list[str]:
        return [name for name in samples if name != US]

    def _add(
        self, label: str, samples: Sequence[float], unit: str, panel: str = "", against: str = ""
    ) -> None:
        """Add a figure; to a panel of the plot; with the target against a peer, if there is one."""
        targets = self._field[against].at_least if against and not self.settings["tiny"] else {}
        limits = {"at_least": targets[self.problem]} if self.problem in targets else {}
        self.report.add(f"{self.problem} {label}", samples, unit, **limits)
        if panel:
            self.panels[panel][label.split(":")[0]] = median(samples)

    @contextmanager
    def _started(self) -> Iterator[dict[str, Remote]]:
        """Start a process for each competitor."""
        with ExitStack() as stack:
            remotes = {}
            for name, competitor in self._field.items():
                remote = Remote(name, competitor, self.problem, self.settings["tiny"])
                remotes[name] = stack.enter_context(remote)
            for remote in remotes.values():
                remote.ready()
            yield remotes


def sample_size(remote: Remote, most: int, seconds: float) -> int:
    """Advance ever further, until it takes so many seconds or is as far as `most`."""
    made = remote.advance(1)
    while True:
        elapsed, made = timed(partial(remote.advance, min(2 * made, most)))
        if elapsed > seconds or made >= most:
            return min(made, most)


def able(problem: str, names: Sequence[str]) -> dict[str, Competitor]:
    """Return those who can learn a problem here; say who cannot, and what would help."""
    found = {}
    for name in names:
        peer = PEERS[name]
        if problem not in peer.problems:
            click.echo(f"{problem}: {name} is left out, it cannot learn this problem")
        elif peer.missing:
            click.echo(f"{problem}: {name} is left out, it is not installed: {peer.install}")
        else:
            found[name] = peer
    return found


@click.command(help="Transitions per second, seconds to an error and memory, against peers.")
@options
@click.option("--problem", "problems", multiple=True, type=click.Choice(PROBLEMS), help="Which.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(PEERS)), help="Which.")
@click.option("--plot", type=click.Path(), help="Draw the figures there.")
@click.option("--transitions", default=40_000_000, show_default=True, help="In a sample, at most.")
@click.option(
    "--seconds", default=3.0, show_default=True, help="Samples that take longer make less."
)
@click.option("--races", default=2, show_default=True, help="To the error, of one seed each.")
@click.option("--slowest", default=20.0, show_default=True, help="Races: dqlearn / rate, at most.")
@click.option("--error", type=float, help="Share of mean |V*|; by default 20 % and 5 %.")
@click.option("--step", default=8_000_000, show_default=True, help="Transitions between looks.")
@click.option("--limit", default=4_000_000_000, show_default=True, help="Transitions of a race.")
@click.option("--tiny", is_flag=True, help="Very small problems, to try the script out.")
@click.option("--large", is_flag=True, help="Allow 'big': 4 GB a loop, 8 GB or more for dqlearn.")
def main(
    problems: Sequence[str],
    peers: Sequence[str],
    plot: str | None,
    json_path: str | None,
    **settings: Any,
) -> None:
    if "big" in problems and not (settings["large"] or settings["tiny"]):
        raise click.UsageError("'big' has a table of 10^9 entries: pass --large if there is room")
    needed = [name for peer in PEERS.values() if not peer.missing for name in peer.needs]
    report = Report("peers", **settings, **{name: version(name) for name in needed})
    panels = {}
    for problem in problems or ("torus", "garnet", "taxi"):
        comparison = Comparison(report, problem, able(problem, peers or list(PEERS)), **settings)
        comparison.measure()
        panels[problem] = comparison.panels
    report.finish(json_path)
    if plot is not None:
        draw(plot, panels)


if __name__ == "__main__":
    main()
