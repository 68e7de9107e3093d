"""Independent steps side by side, in threads."""

from __future__ import annotations

import contextvars
import heapq
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

from zen_mlmd.pipelines.draft import Node

_log = logging.getLogger(__name__)


def run_side_by_side(
    nodes: Sequence[Node], run: Callable[[Node], None], *, at_most: int, leave: Callable[[], None]
) -> None:
    """Run all steps, each as soon as those that it waits for have ended, and earlier ones first.

    When one raises no other is begun, those that run are waited for, and the exception goes on. So it
    is with Ctrl-C, which comes to the caller's thread; a second one leaves the threads alone, which
    do not keep the process from ending.

    Args:
        nodes: In an order in which they could run one after another.
        run: Runs one step.
        at_most: So many at once.
        leave: Called before threads are left alone that still run a step.

    Raises:
        BaseException: What the first failing step raised.
    """
    threads: list[threading.Thread] = []
    try:
        failure = _work_off(nodes, run, at_most, threads)
    except BaseException:  # of this thread's own: Ctrl-C
        try:
            running = [thread for thread in threads if thread.is_alive()]
            if running:
                _log.warning("waiting for %d steps that run; interrupt again to leave them", len(running))
            for thread in running:
                thread.join()
        except BaseException:
            leave()
            raise
        raise
    if failure is not None:
        raise failure


def _work_off(
    nodes: Sequence[Node], run: Callable[[Node], None], at_most: int, threads: list[threading.Thread]
) -> BaseException | None:
    ended: queue.SimpleQueue[tuple[str, BaseException | None]] = queue.SimpleQueue()

    def work(node: Node) -> None:
        error = None
        try:
            run(node)
        except BaseException as raised:  # noqa: BLE001 - it is raised in the caller's thread
            error = raised
        ended.put((node.name, error))

    waits = {node.name: node.waits_for for node in nodes}
    followers: defaultdict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        for name in waits[node.name]:
            followers[name].append(index)
    ready = [index for index, node in enumerate(nodes) if not waits[node.name]]
    running, failure = 0, None
    while running or (ready and failure is None):
        while ready and running < at_most and failure is None:
            node = nodes[heapq.heappop(ready)]
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(work, node), name=node.name, daemon=True)
            threads.append(thread)
            thread.start()
            running += 1
        name, error = ended.get()
        running -= 1
        failure = failure or error
        if error is None:
            for index in followers[name]:
                waits[nodes[index].name].discard(name)
                if not waits[nodes[index].name]:
                    heapq.heappush(ready, index)
    return failure
