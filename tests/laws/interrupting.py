"""Interrupting, as people do it: Ctrl-C in a terminal, the interrupt of a Jupyter kernel.

::

    terminal ──► ^C ──► the process group: the program, and the workers that it started
    Jupyter  ──► SIGINT to the process group of the kernel

Invariant: programs and kernels are real ones; whoever calls says what is to be true afterwards.
"""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from pathlib import Path
from typing import NamedTuple

from jupyter_client.manager import KernelManager

from dqlearn import QLearner

ROUND = 256 * 64
BEGUN = 4 * ROUND

LEARNER = """
import dqlearn
from distributed import Client

def learner():
    return dqlearn.QLearner(
        "dqlearn/Torus-v0",
        env_kwargs={"side": 64},
        num_envs=256,
        steps_per_round=64,
        shards=2,
        seed=0,
    )

def client():
    return Client(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0")
"""

PROGRAM = f"""{LEARNER}
import sys

if __name__ == "__main__":
    with client():
        made = learner().learn({BEGUN}, store=sys.argv[1])
        print("BEGUN", flush=True)
        try:
            made.learn(10**12)
        except KeyboardInterrupt:
            print("KEPT", made.num_timesteps, flush=True)
"""


class Interrupted(NamedTuple):
    """Seconds from the interrupt to KeyboardInterrupt; transitions that the learner has then."""

    seconds: float
    kept: int


class _Terminal:
    """A program in a terminal of its own."""

    def __init__(self, program: Path, *args: str) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:  # the child, which leads the terminal's process group
            os.execv(sys.executable, [sys.executable, str(program), *args])
        self.shown = ""

    def wait_for(self, words: str, timeout: float) -> re.Match[str]:
        """Read what it shows until that matches."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(words, self.shown)):
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.shown}"
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.shown += os.read(self.terminal, 65_536).decode(errors="replace")
        return found

    def end(self, timeout: float) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self.terminal, 65_536).decode(errors="replace")
                except OSError:  # nobody has the terminal any more
                    break
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def in_a_terminal(folder: Path, store: Path, after: float = 1.0) -> Interrupted:
    """Press Ctrl-C in a terminal where a program learns, so many seconds after it has begun."""
    program = folder / "learning.py"
    program.write_text(PROGRAM)
    terminal = _Terminal(program, str(store))
    terminal.wait_for("BEGUN", 60)
    time.sleep(after)
    pressed = time.monotonic()
    os.write(terminal.terminal, b"\x03")
    kept = terminal.wait_for(r"KEPT (\d+)", 60)
    seconds = time.monotonic() - pressed
    code = terminal.end(60)
    assert code == 0, terminal.shown
    assert "Traceback" not in terminal.shown
    return Interrupted(seconds, int(kept[1]))


def in_a_kernel(store: Path, after: float = 1.0) -> Interrupted:
    """Interrupt the cell of a notebook's kernel that learns."""
    kernel = KernelManager()
    kernel.start_kernel()
    notebook = kernel.client()
    notebook.start_channels()
    shown: list[str] = []

    def run(code: str) -> None:
        def show(message: dict[str, dict[str, str]]) -> None:
            if message["content"].get("name") == "stdout":
                shown.append(message["content"]["text"])

        reply = notebook.execute_interactive(code, timeout=200, output_hook=show)
        assert reply["content"]["status"] == "ok", reply["content"]

    try:
        notebook.wait_for_ready(timeout=200)
        run(f"{LEARNER}\nhere = client()\nmade = learner().learn({BEGUN}, store={str(store)!r})")
        asked = notebook.execute("made.learn(10**12)")
        time.sleep(after)
        pressed = time.monotonic()
        kernel.interrupt_kernel()
        reply = notebook.get_shell_msg(timeout=200)
        seconds = time.monotonic() - pressed
        assert reply["parent_header"]["msg_id"] == asked
        assert reply["content"]["ename"] == "KeyboardInterrupt", reply["content"]
        run("print(made.num_timesteps)\nhere.close()")
    finally:
        notebook.stop_channels()
        kernel.shutdown_kernel()
    return Interrupted(seconds, int("".join(shown)))


def undisturbed(timesteps: int) -> QLearner:
    """The same learner where nobody interrupts it."""
    namespace: dict[str, object] = {}
    exec(LEARNER, namespace)
    made: QLearner = namespace["learner"]()  # type: ignore[operator]
    return made.learn(timesteps)
