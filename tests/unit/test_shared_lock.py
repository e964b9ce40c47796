"""The lock between the thread that learns and those that read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dqlearn.training.ownership import SharedLock

NOT_YET = 0.1  # seconds


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Other threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def waits(future: Future[None]) -> bool:
    """Whether it is not done soon."""
    with pytest.raises(TimeoutError):
        future.result(NOT_YET)
    return True


def read(lock: SharedLock) -> None:
    with lock.shared():
        pass


def test_readers_share_it() -> None:
    lock = SharedLock()
    with lock.shared(), ThreadPoolExecutor(1) as pool:
        pool.submit(read, lock).result(10)


def test_readers_wait_for_the_writer(threads: ThreadPoolExecutor) -> None:
    lock = SharedLock()
    lock.acquire()
    readers = [threads.submit(read, lock) for _ in range(2)]
    assert all(waits(reader) for reader in readers)
    lock.release()
    for reader in readers:
        reader.result(10)


def test_the_writer_waits_for_readers(threads: ThreadPoolExecutor) -> None:
    lock = SharedLock()
    with lock.shared():
        writer = threads.submit(lock.acquire)
        assert waits(writer)
    writer.result(10)


def test_twice_is_once() -> None:
    """A round in place acquires it again when its report is collected."""
    lock = SharedLock()
    lock.release()
    lock.acquire()
    lock.acquire()
    lock.release()
    read(lock)


def test_who_waits_reads_before_the_next_round(threads: ThreadPoolExecutor) -> None:
    """However soon that comes."""
    lock, inside, leave = SharedLock(), threading.Event(), threading.Event()

    def stay() -> None:
        with lock.shared():
            inside.set()
            assert leave.wait(10)

    lock.acquire()
    reader = threads.submit(stay)
    assert waits(reader)
    lock.release()
    writer = threads.submit(lock.acquire)
    assert inside.wait(10)
    assert waits(writer)
    leave.set()
    reader.result(10)
    writer.result(10)


def test_an_error_lets_the_writer_in(threads: ThreadPoolExecutor) -> None:
    lock = SharedLock()
    with pytest.raises(ZeroDivisionError), lock.shared():
        raise ZeroDivisionError
    threads.submit(lock.acquire).result(10)
