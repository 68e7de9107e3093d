from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from zen_mlmd.errors import ConfigError, ConnectionFailedError, LockTimeoutError, UsageError
from zen_mlmd.service import lock as lock_module
from zen_mlmd.service.lock import WriteLock

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from zen_mlmd.service.lock import WriteLock
with WriteLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""

# Reads, waits, writes: if two are inside at once, a line is lost.
CONTEND = """
import os, sys, time
from pathlib import Path
from zen_mlmd.service.lock import WriteLock
path, log, end = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
lock, turns = WriteLock(path), 0
while time.time() < end:
    with lock:
        seen = log.read_text()
        time.sleep(0.001)
        log.write_text(f"{seen}{os.getpid()} ")
    turns += 1
print(turns)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `path`."""
    with start(HOLD, path) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def is_free(path: Path) -> bool:
    try:
        with WriteLock(str(path), timeout_s=0):
            return True
    except LockTimeoutError:
        return False


def wait_for_child(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_eight_processes_exclude_each_other_and_each_gets_a_fair_share(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    end = time.time() + 5  # 2 s to start, 3 s of contention
    processes = [start(CONTEND, tmp_path / "db", log, end) for _ in range(8)]
    turns = [int(process.communicate(timeout=60)[0]) for process in processes]
    order = log.read_text().split()
    assert len(order) == sum(turns)
    assert min(turns) > sum(turns) / len(turns) / 4, turns
    # Who has just released it does not take it again before those who wait.
    begun = max(order.index(str(process.pid)) for process in processes)
    crowded = order[begun : len(order) - 50]
    again = sum(one == two for one, two in itertools.pairwise(crowded))
    assert again < len(crowded) / 10, (again, len(crowded))


def test_threads_with_one_lock_exclude_each_other_and_each_gets_a_fair_share(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))
    turns = [0] * 4
    inside: list[int] = []
    overlaps: list[int] = []
    end = time.monotonic() + 1

    def contend(number: int) -> None:
        while time.monotonic() < end:
            with lock:
                inside.append(number)
                time.sleep(0.001)
                overlaps.extend(inside[1:])
                inside.remove(number)
            turns[number] += 1

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert min(turns) > sum(turns) / len(turns) / 4, turns


def test_two_locks_of_one_path_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with WriteLock(str(tmp_path / "db")):
        assert not is_free(tmp_path / "db")
    assert is_free(tmp_path / "db")


def test_a_symbolic_link_and_its_target_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "db")
    with WriteLock(str(tmp_path / "link")):
        assert not is_free(tmp_path / "db")


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "db") as process:
        assert not is_free(tmp_path / "db")
        process.kill()
        process.wait()
        with WriteLock(str(tmp_path / "db"), timeout_s=5):
            pass


def test_a_stopped_holder_leads_to_a_timeout_within_the_bound(tmp_path: Path) -> None:
    with holder(tmp_path / "db") as process:
        process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(LockTimeoutError, match="another process held it") as caught:
            WriteLock(str(tmp_path / "db"), timeout_s=0.3).acquire()
        assert 0.3 <= time.monotonic() - begun < 2
        assert f"{tmp_path}/db.lock" in caught.value.hint
        process.send_signal(signal.SIGCONT)


def test_a_waiter_that_gave_up_leaves_the_turnstile_to_the_next(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"), timeout_s=0.05)
    with holder(tmp_path / "db") as process:
        with pytest.raises(LockTimeoutError):
            lock.acquire()
        process.kill()
        process.wait()
    with lock:
        assert not is_free(tmp_path / "db")


def test_an_interrupted_waiter_leaves_nothing_locked(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with holder(tmp_path / "db"):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert is_free(tmp_path / "db")
    with lock:
        pass


def interrupted_at(instruction: int, work: Callable[[], object]) -> bool:
    """Do something and raise KeyboardInterrupt at one of the instructions of the lock's module, or of `work`.

    Returns whether there was that instruction.
    """
    left = instruction

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (lock_module.__file__, __file__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_ctrl_c_at_any_instruction_leaves_nothing_locked(tmp_path: Path) -> None:
    """As `NativeService` uses the lock; another thread and another lock must get it at once."""
    path = tmp_path / "db"
    lock, entered = WriteLock(str(path), timeout_s=0), []

    def write() -> None:
        try:
            with lock:
                entered.append(True)
        finally:
            lock.release()

    write()
    for instruction in itertools.count(1):
        if not interrupted_at(instruction, write):
            break
        assert repr(lock) == f"<WriteLock {path}.lock>"
        assert is_free(path), instruction
        with ThreadPoolExecutor(1) as other:
            other.submit(lock.acquire).result()
            other.submit(lock.release).result()
        assert is_free(path), instruction
    assert instruction > 100
    assert 1 < len(entered) < instruction
    gc.collect()  # the locks of broken frames, with their descriptors


def test_ctrl_c_at_any_instruction_of_closing_leaves_nothing_locked(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"), timeout_s=0)

    def close() -> None:
        try:
            lock.close()
        finally:
            lock.release()

    for instruction in itertools.count(1):
        with lock:
            pass
        if not interrupted_at(instruction, close):
            break
        with ThreadPoolExecutor(1) as other:
            other.submit(lock.acquire).result()
            other.submit(lock.release).result()
        assert is_free(tmp_path / "db")
    assert instruction > 20
    gc.collect()


def test_a_thread_waits_no_longer_than_the_bound_for_another_thread(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"), timeout_s=0.2)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            lock.acquire()
        except LockTimeoutError as error:
            errors.append(error)

    with lock:
        # One waits inside the turnstile of threads and one before it.
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert ["another thread of this process" in str(error) for error in errors] == [True, True]
    with lock:
        pass


def test_taking_it_twice_in_one_thread_is_refused_at_once(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))
    with lock, pytest.raises(UsageError, match="holds the lock"):
        lock.acquire()
    assert is_free(tmp_path / "db")


def test_releasing_what_another_thread_holds_does_nothing(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))
    with lock:
        thread = threading.Thread(target=lock.release)
        thread.start()
        thread.join()
        assert not is_free(tmp_path / "db")


def test_a_child_forked_inside_the_block_neither_holds_nor_releases(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"), timeout_s=0)
    with lock:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                lock.release()  # what the end of the block would do
                if not is_free(tmp_path / "db"):
                    lock.acquire()
            except LockTimeoutError:
                status = 42
            finally:
                os._exit(status)
        assert wait_for_child(pid) == 42
        assert not is_free(tmp_path / "db")
    assert is_free(tmp_path / "db")


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = HOLD.replace("time.sleep(60)", "import os; os.fork(); time.sleep(60)")
    with start(script, tmp_path / "db") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        time.sleep(0.3)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        try:
            assert len(children) == 1
            process.kill()
            process.wait()
            assert is_free(tmp_path / "db")
        finally:
            for child in children:
                os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_can_take_a_lock_that_a_thread_of_its_parent_held(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"), timeout_s=20)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with lock:
                status = 42
        finally:
            os._exit(status)
    done.set()
    thread.join()
    assert wait_for_child(pid) == 42


def test_a_deleted_lock_file_still_excludes_those_who_come_later(tmp_path: Path) -> None:
    path = tmp_path / "db"
    lock = WriteLock(str(path), timeout_s=0)
    with lock:
        pass
    (tmp_path / "db.lock").unlink()
    (tmp_path / "db.queue").unlink()
    with lock:
        assert not is_free(path)
        (tmp_path / "db.lock").unlink()
    # `old` has the deleted file open, which nobody may wait for any longer.
    old = WriteLock(str(path), timeout_s=0)
    with lock:
        with pytest.raises(LockTimeoutError):
            old.acquire()
        (tmp_path / "db.lock").unlink()
        with pytest.raises(LockTimeoutError):
            old.acquire()
        with old:
            pass


def test_a_lock_file_of_another_user_that_may_only_be_read_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def refuse_writing(name: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", name)
        return real_open(name, flags, mode)

    with WriteLock(str(tmp_path / "db")):
        pass
    monkeypatch.setattr(os, "open", refuse_writing)  # the tests may run as root, whom no mode stops
    with WriteLock(str(tmp_path / "db")):
        assert not is_free(tmp_path / "db")


def test_a_missing_directory_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailedError, match=r"nowhere/db\.queue cannot be locked: No such file"):
        WriteLock(str(tmp_path / "nowhere" / "db")).acquire()


def test_making_a_lock_touches_no_file(tmp_path: Path) -> None:
    WriteLock(str(tmp_path / "db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan")])
def test_a_senseless_time_limit_is_refused(tmp_path: Path, timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="negative"):
        WriteLock(str(tmp_path / "db"), timeout_s=timeout_s)


def test_an_endless_time_limit_is_possible(tmp_path: Path) -> None:
    with WriteLock(str(tmp_path / "db"), timeout_s=float("inf")):
        pass


def test_closing_frees_the_descriptors_and_the_lock_works_again(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))
    with lock:
        with pytest.raises(UsageError, match="in use"):
            lock.close()
        before = len(list(Path("/proc/self/fd").iterdir()))
    lock.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 2
    with lock:
        assert not is_free(tmp_path / "db")


def test_repr_says_whether_it_is_held_in_this_process(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "db"))
    assert repr(lock) == f"<WriteLock {tmp_path}/db.lock>"
    with lock:
        assert repr(lock) == f"<WriteLock {tmp_path}/db.lock held>"
