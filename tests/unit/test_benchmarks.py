"""Every benchmark runs to its end on a tiny problem, and writes the figures that it prints."""

from __future__ import annotations

import importlib
import json
import select
import time
from contextlib import ExitStack
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socketpair
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import LocalCluster
from shaped import Network, Relay
from stream import watched

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--tiny", "--repeats", "2"]
COUPLED = "as it is", "without both"
ROUND = ["--num-envs", "64", "--steps-per-round", "8", "--chunks", "128"]


def figures(name: str, options: list[str], folder: Path) -> dict[str, list[float]]:
    """Run a benchmark; return the samples of each of its figures."""
    where = folder / "figures.json"
    main = importlib.import_module(name).main
    result = CliRunner().invoke(main, [*options, "--json", str(where)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    written = json.loads(where.read_text())["figures"]
    assert all(f"{figure['median']:.4g}" in result.output for figure in written)
    return {figure["name"]: figure["samples"] for figure in written}


def test_all_benchmarks_are_tried_out() -> None:
    shared = {"case", "harness", "hashed", "kernels", "problems", "shaped", "stream"}
    shared |= {"seas", "walks"}
    here = Path(__file__).read_text(encoding="utf-8")
    names = {path.stem for path in FOLDER.glob("*.py")} - shared
    assert {name for name in names if f'figures("{name}"' in here} == names


@pytest.mark.slow
def test_loops_learn_the_exact_values(tmp_path: Path) -> None:
    errors = figures("loops", ["--check", "--transitions", "2_000_000"], tmp_path)
    assert len(errors) == 4
    assert np.max(list(errors.values())) < 0.02


def test_stages(tmp_path: Path) -> None:
    nanoseconds = figures("stages", [*TINY, *ROUND], tmp_path)
    common = ("update", "summary", "policy", "else")
    for lag, own in enumerate((("rollout and route",), ("rollout", "route"))):
        parts = [nanoseconds[f"torus lag {lag}: {part}"] for part in (*own, *common)]
        assert np.sum(parts, axis=0) == pytest.approx(nanoseconds[f"torus lag {lag}: all"])


@pytest.mark.slow
def test_time_to_error(tmp_path: Path) -> None:
    options = [*TINY, *ROUND, "--walkers", "4", "--step", "20_000", "--limit", "4_000_000"]
    seconds = figures("time_to_error", options, tmp_path)
    assert min(seconds["garnet plain loop, 4 walkers / threads"]) > 0.0


def test_small_rounds(tmp_path: Path) -> None:
    options = ["--tiny", "--repeats", "2", "--problem", "torus", "--transitions", "200_000"]
    rates = figures("small_rounds", options, tmp_path)
    assert min(rates["torus 16384"]) > 0.0
    assert len(rates) == 7


@pytest.mark.cluster
@pytest.mark.slow
def test_federated_workers(tmp_path: Path) -> None:
    options = ["--tiny", "--repeats", "1", "--processes", "2", "--local-rounds", "4"]
    rates = figures("federated", ["workers", *options], tmp_path)
    assert min(rates["2 workers, apart"]) > 0.0


def test_federated_heterogeneity(tmp_path: Path) -> None:
    options = ["--tiny", "--repeats", "1", "--plot", str(tmp_path)]
    floors = figures("federated", ["heterogeneity", *options], tmp_path)
    assert min(floors["importance, 16 members: floor"]) > 0.0
    assert (tmp_path / "federated.svg").stat().st_size > 10_000


def test_federated_model(tmp_path: Path) -> None:
    rates = figures("federated", ["model"], tmp_path)
    shared, longer = ([n for n in rates if f"{size} M a member" in n] for size in ("4.2", "33.6"))
    assert len(shared) == len(longer) == 18


def test_masks(tmp_path: Path) -> None:
    made = figures("masks", ["--repeats", "1", "--most", "5_000"], tmp_path)
    assert made["with the mask"] == made["without"] == [5_120]


def test_few_envs(tmp_path: Path) -> None:
    few = ["--env", "CliffWalking-v1"]
    rates = figures("few_envs", ["rate", *few, "--repeats", "1", "--transitions", "500"], tmp_path)
    assert min(rates["CliffWalking-v1 default / loop"]) > 0.0
    made = figures("few_envs", ["return", *few, "--seeds", "1", "--goal", "-1e6"], tmp_path)
    assert made["CliffWalking-v1 loop"] == [0.5]


def test_big_tables(tmp_path: Path) -> None:
    small = ["--num-envs", "256", "--rounds", "2", "--repeats", "1"]
    few = [*small, "--places", "1000"]
    for what, largest in (("states", "12"), ("laid-out", "6")):
        milliseconds = figures("big_tables", [what, *few, "--largest", largest], tmp_path)
        assert min(milliseconds[f"10^{largest} states"]) > 0.0
    bytes_each = figures("big_tables", ["visited", *small, "--visited", "5000"], tmp_path)
    assert 0.005 <= bytes_each["visited states"][0] < 0.006
    gibibytes = figures("big_tables", ["billion", *small, "--states", "10000"], tmp_path)
    assert gibibytes["table"] == [10_000 * 8 * 8 / 2**30]


def test_out_of_core(tmp_path: Path) -> None:
    small = ["--num-envs", "256", "--rounds", "2", "--repeats", "2", "--states", "10000"]
    rates = figures("out_of_core", ["threads", *small], tmp_path)
    assert min(rates["near: out of core"] + rates["far: in memory"]) > 0.0


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--repeats", "2", "--states", "10000", "--rows", "3000", "--gamma", "0.9"]
    assert min(figures("certificates", ["sweep", *options], tmp_path)["pairs"]) > 0.0
    ratios = figures("certificates", ["solve", *options], tmp_path)
    assert min(ratios["garnet: values / policies"]) > 0.0


@pytest.mark.slow
def test_peers(tmp_path: Path) -> None:
    names = ("tuned-threads", "numpy", "dask-array", "queues")
    options = ["--problem", "garnet", *(part for name in names for part in ("--peer", name))]
    small = ["--transitions", "1000", "--seconds", "0.1", "--races", "0", "--tiny"]
    plot = tmp_path / "peers.svg"
    measured = figures("peers", [*options, *small, "--repeats", "2", "--plot", str(plot)], tmp_path)
    assert {f"garnet dqlearn / {name}" for name in names} < measured.keys()
    assert measured["garnet queues: peak memory"] > measured["garnet memory before learning"]
    assert plot.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_peers_learn_the_exact_values(tmp_path: Path) -> None:
    names = ("plain-threads", "tuned-threads", "numpy", "dask-array")
    options = ["--problem", "garnet", *(part for name in names for part in ("--peer", name))]
    small = ["--tiny", "--transitions", "1000", "--seconds", "0.1", "--repeats", "1"]
    all_race = ["--races", "1", "--slowest", "1e9", "--error", "0.05", "--step", "20_000"]
    seconds = figures("peers", [*options, *small, *all_race], tmp_path)
    assert {f"garnet {name} / dqlearn: to 5%" for name in names} < seconds.keys()


def test_networks(tmp_path: Path) -> None:
    options = ["--family", "TrafficGrid", "--budget", "0.0001", "--episodes", "8"]
    returns = figures("networks", ["medium", *options], tmp_path)
    least, mean, most = returns["TrafficGrid learned - fixed time"]
    assert least < mean < most
    assert returns["TrafficGrid fixed time, lost"][1] > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["TrafficGrid", "PacketRouting"])
@pytest.mark.parametrize("what", ["small", "curve", "speed", "profile"])
def test_networks_otherwise(tmp_path: Path, what: str, family: str) -> None:
    options = ["--family", family, "--budget", "0.0001", "--episodes", "8"]
    fast = ["--repeats", "2", "--transitions", "1000", "--plot", str(tmp_path)]
    assert figures("networks", [what, *options, *fast], tmp_path)
    assert (what == "curve") == (tmp_path / f"{family}.svg").exists()


@pytest.mark.slow
def test_networks_tie(tmp_path: Path) -> None:
    gaps = figures("networks", ["tie", "--budget", "0.0001", "--episodes", "50"], tmp_path)
    assert gaps["PacketDispatch gap of the policy"][0] > gaps["PacketDispatch gap of the rule"][0]
    assert gaps["PacketDispatch gap of the rule"][0] < 1e-3


@pytest.mark.slow
def test_networks_coupling(tmp_path: Path) -> None:
    shares = figures("networks", ["coupling"], tmp_path)
    apart = [shares[f"{case}: cost above the optimum if run apart"][0] for case in COUPLED]
    assert apart[0] > 10.0
    assert max(map(abs, apart[1:])) < 1e-3


def test_modules(tmp_path: Path) -> None:
    counts = figures("modules", [], tmp_path)
    assert len(counts) == 4
    assert all(10 < count[0] < 60 for count in counts.values())


def test_settings(tmp_path: Path) -> None:
    problem = ["--problem", "dqlearn/TrafficGrid-v0", "--repeats", "1", "--episodes", "20"]
    made = figures("settings", [*problem, "--target", "-2000"], tmp_path)
    rounds = {name: n for name, (n,) in made.items() if name.endswith("rounds")}
    assert len(rounds) == len(made) / 2 == 8
    assert all(n == int(n) > 0 for n in rounds.values())
    assert made["dqlearn/TrafficGrid-v0 64 x 1 to -2000: transitions"] < [16.384]
    missed = figures("settings", [*problem, "--target", "0", "--limit", "50_000"], tmp_path)
    assert set(map(tuple, missed.values())) == {(float("inf"),)}


def test_first_table(tmp_path: Path) -> None:
    measured = figures("first_table", ["--repeats", "1"], tmp_path)
    assert set(measured) == {"learned", "plain loop", "learned / plain loop"}
    assert min(measured["learned"]) > 0.0


def test_decisions(tmp_path: Path) -> None:
    options = ["--side", "16", "--calls", "200", "--repeats", "1"]
    measured = figures("decisions", options, tmp_path)
    assert {"import", "int: p50", "dict: p99", "batch / q[s].argmax(1)"} < measured.keys()
    assert min(measured["batch"]) > 0.0


def test_observe(tmp_path: Path) -> None:
    options = ["--states", "1_000", "--transitions", "2_000", "--calls", "20", "--repeats", "1"]
    measured = figures("observe", options, tmp_path)
    assert {"batches of 1,000", "one transition", "predict and one"} < measured.keys()
    assert min(measured["batches of 1,000"]) > 0.0


@pytest.mark.slow
def test_startup(tmp_path: Path) -> None:
    assert min(figures("startup", ["--repeats", "1"], tmp_path)["import dqlearn"]) > 0.0


@pytest.mark.slow
@pytest.mark.cluster
def test_speed(tmp_path: Path, local_cluster: LocalCluster) -> None:
    options = [*TINY, *ROUND, "--transitions", "4096", "--cluster", local_cluster.scheduler_address]
    assert len(figures("speed", options, tmp_path)) == 2 * 9


@pytest.mark.cluster
def test_overhead(tmp_path: Path, local_cluster: LocalCluster) -> None:
    options = ["--rounds", "5", "--repeats", "2", "--cluster", local_cluster.scheduler_address]
    assert len(figures("overhead", options, tmp_path)) == 4


@pytest.mark.cluster
def test_python_envs(tmp_path: Path, local_cluster: LocalCluster) -> None:
    small = ["--num-envs", "4", "--steps-per-round", "4", "--rounds", "2", "--repeats", "2"]
    options = [*small, "--cluster", local_cluster.scheduler_address]
    assert len(figures("python_envs", options, tmp_path)) == 3


@pytest.mark.cluster
def test_flat_cost(tmp_path: Path, local_cluster: LocalCluster) -> None:
    options = ["--rounds", "20", "--cluster", local_cluster.scheduler_address]
    assert len(figures("flat_cost", options, tmp_path)) == 3 * 10 + 3


@pytest.mark.cluster
def test_flat_cost_with_checkpoints(tmp_path: Path, local_cluster: LocalCluster) -> None:
    options = ["--rounds", "20", "--cluster", local_cluster.scheduler_address]
    measured = figures("flat_cost", [*options, "--checkpoint-rounds", "5"], tmp_path)
    assert len(measured) == 4 * 10 + 4
    assert measured["part 10: store"][0] > 0.0


@pytest.mark.slow
def test_rules(tmp_path: Path) -> None:
    found = figures("rules", ["--tiny", "--repeats", "1"], tmp_path)
    assert found["peng:0.75:3, rlax's vectors, row 1, step 0"] == pytest.approx([0.69348])
    assert found["n_step:4, 19-state walk, alpha 0.4"] == pytest.approx([0.265], abs=0.04)
    assert found["expected_sarsa, cliff walking, steps of the greedy path"] == [15]


@pytest.mark.cluster
def test_moved(tmp_path: Path, local_cluster: LocalCluster) -> None:
    options = ["--tiny", *ROUND, "--rounds", "3", "--cluster", local_cluster.scheduler_address]
    megabytes = figures("moved", options, tmp_path)
    assert min(megabytes["torus parcel"]) > 0.0
    assert megabytes["garnet chunks"] == [0.0]


@pytest.mark.cluster
def test_skew(tmp_path: Path, local_cluster: LocalCluster) -> None:
    small = ["--tiny", "--states", "4096", "--rounds", "2", "--repeats", "1"]
    options = [*small, "--cluster", local_cluster.scheduler_address]
    assert figures("skew", options, tmp_path)["threads, gather, stays / cut anew"][0] > 0.0


@pytest.mark.slow
@pytest.mark.cluster
def test_checkpoints(tmp_path: Path, local_cluster: LocalCluster) -> None:
    small = ["--states", "4096", "--chunks", "4", "--num-envs", "4096", "--rounds", "2"]
    options = [*small, "--repeats", "1", "--cluster", local_cluster.scheduler_address]
    assert figures("checkpoints", options, tmp_path)["checkpoint / to_zarr"][0] > 0.0


@pytest.mark.slow
@pytest.mark.cluster
def test_cost_model(tmp_path: Path) -> None:
    milliseconds = figures("cost_model", ["--tiny", "--rounds", "2", "--repeats", "1"], tmp_path)
    assert milliseconds["4 workers, 8 shards, 256 states, 2048 transitions: measured"][0] > 0.0
    assert milliseconds["128 cores, as it is: tasks and fetches"][0] >= 0.0


@pytest.mark.slow
@pytest.mark.cluster
def test_speedup(tmp_path: Path) -> None:
    options = [*TINY, *ROUND, "--rounds", "3", "--problem", "torus"]
    speedups = figures("speedup", options, tmp_path)["torus stages, 1 worker / 2 workers"]
    assert len(speedups) == 2


def test_rounds_are_read_off_the_scheduler() -> None:
    def entry(name: str, round_: int, worker: str, began: float, ended: float) -> dict[str, Any]:
        fetched = {"action": "transfer", "start": began - 1.0, "stop": began}
        computed = {"action": "compute", "start": began, "stop": ended}
        key = (f"dqlearn-{name}", "run", round_, 0)
        return {"key": key, "worker": worker, "startstops": [fetched, computed]}

    entries = [
        *(entry("update", r, "a", 10.0 * r, 10.0 * r + 2.0) for r in range(5)),
        *(entry("rollout", r, "b", 10.0 * r, 10.0 * r + 3.0) for r in range(5)),
        *(entry("report", r, "a", 10.0 * r + 4.0, 10.0 * r + 5.0) for r in range(5)),
    ]
    seen = watched(entries)
    assert seen.seconds == 10.0
    assert seen.total("update", "rollout") == 5.0
    assert seen.largest("update", "rollout") == 3.0


def test_a_network_delays_and_limits() -> None:
    delay, rate, size = 0.05, 1e5, 10_000
    packet = bytes([0x45, *[0] * 18, 1]) + bytes(size - 20)  # to 1
    with ExitStack() as stack:
        sockets = [[*map(stack.enter_context, socketpair(AF_UNIX, SOCK_DGRAM))] for _ in range(2)]
        (end_1, ours_1), (end_2, ours_2) = sockets
        relay = Relay({1: end_1.fileno(), 2: end_2.fileno()}, Network(delay, rate))
        began = time.monotonic()
        for _ in range(2):
            ours_2.send(packet)
        while not select.select([ours_1], [], [], 0.0)[0]:
            relay.turn()
        first = time.monotonic() - began
        assert ours_1.recv(2 * size) == packet
        assert delay + size / rate <= first


@pytest.mark.slow
@pytest.mark.cluster
def test_time_lost(tmp_path: Path) -> None:
    options = ["--side", "32", "--rounds", "12", "--every", "4", "--repeats", "1"]
    assert figures("time_lost", options, tmp_path)
