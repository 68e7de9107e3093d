"""The process of a forward: listens on this machine, and connects each client to a ready pod.

    python -m zen_mlmd.cluster.forwarder

It reads what is wished from its input, detaches itself, tells on its output once it stands or why it
cannot, and goes on until SIGTERM. What it does is in its log, see `zen_mlmd.cluster.standing`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import logging.handlers
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Final

from zen_mlmd.cluster.access import Cluster, connect
from zen_mlmd.cluster.pods import PodPort, ready_pod
from zen_mlmd.cluster.standing import Place, Standing, Target, Wish
from zen_mlmd.cluster.tunnel import Tunnel, open_tunnel
from zen_mlmd.errors import ClusterUnreachableError, ForwardError, ZenMlmdError

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_RENEW_S: Final = 30.0
_UNAUTHORIZED: Final = 401
_LOG_BYTES: Final = 2**20

log = logging.getLogger("zen_mlmd.forwarder")


class Way:
    """The way to a ready pod; each connection finds it anew, and a cluster that fails is left in peace."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._next = 0.0
        self._cluster: Cluster | None = None
        self._connected = 0.0

    def find(self) -> tuple[Tunnel, PodPort]:
        """Connect to a ready pod.

        Raises:
            ConnectionFailedError, ConfigError: It cannot be.
        """
        target = self._wish.target
        cluster = self._cluster or self._connect()
        try:
            pod = ready_pod(cluster, target.namespace, target.service, target.port)
            return open_tunnel(cluster, pod), pod
        except ClusterUnreachableError as error:
            # Its credentials may be new in the kubeconfig; a plugin for them is not run all the time.
            if error.status == _UNAUTHORIZED or time.monotonic() - self._connected > _RENEW_S:
                self._cluster = None
            raise

    def find_in_time(self, failed: Callable[[ZenMlmdError], object]) -> tuple[Tunnel, PodPort]:
        """Connect to a ready pod, and try again until a client has waited long enough.

        Args:
            failed: Told why each attempt failed.

        Raises:
            ZenMlmdError: Why the last attempt failed.
        """
        ends = time.monotonic() + self._wish.timeout_s
        while True:
            time.sleep(max(0.0, min(self._next, ends) - time.monotonic()))
            try:
                return self.find()
            except ZenMlmdError as error:
                failed(error)
                self.failed()
                if self._next >= ends:
                    raise

    def failed(self) -> None:
        """Leave the cluster in peace for a moment, and longer each time."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next:
                self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2 or _FIRST_PAUSE_S)
                self._next = now + self._pause_s

    def worked(self) -> None:
        """Note that bytes went to and fro."""
        with self._lock:
            self._pause_s = self._next = 0.0

    def _connect(self) -> Cluster:
        target = self._wish.target
        self._cluster = connect(
            context=target.context, kubeconfig=target.kubeconfig, timeout_s=self._wish.timeout_s
        )
        self._connected = time.monotonic()
        return self._cluster


class Forwarder:
    """Listens, and connects each client.

    Args:
        wish: What is wanted.
        place: Where it is noted.
        preferred: The port to listen on if none is wished and it is free.
    """

    def __init__(self, wish: Wish, place: Place, preferred: int) -> None:
        self._way = Way(wish)
        self._place = place
        self._lock = threading.Lock()
        self._closed = False
        self._listener = _listen(wish.local_port, preferred)
        port = self._listener.getsockname()[1]
        self._standing = Standing(wish=wish, port=port, pid=os.getpid(), since=time.time())

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return self._standing

    def begin(self) -> None:
        """See that there is a way, and note that it stands.

        Raises:
            ZenMlmdError: There is none.
        """
        tunnel, pod = self._way.find()
        tunnel.close()
        log.info("listening on %s for %s; ready: %s", self._standing.address, self._standing.wish.target, pod)
        self._note(pod=str(pod))

    def close(self) -> None:
        """Listen no more, and note nothing more: who stops it takes its notes away."""
        self._listener.close()
        with self._lock:
            self._closed = True

    def run(self) -> None:
        """Take clients, for ever."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:  # too many open files, say
                log.warning("no client can be taken: %s", error)
                time.sleep(_FIRST_PAUSE_S)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Carry a client's bytes until either end closes."""
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tunnel, pod = self._way.find_in_time(self._failed)
            except ZenMlmdError:
                return
            except Exception:
                log.exception("a client could not be served")
                return
            self._note("connections", pod=str(pod))
            log.info("a client is connected to %s", pod)
            ended = tunnel.carry(client, answers=self._worked)
            self._ended(pod, ended, answered=tunnel.answered)  # before the client can ask why

    def _worked(self) -> None:
        self._way.worked()
        self._note(fault="")

    def _ended(self, pod: PodPort, fault: str | None, *, answered: bool) -> None:
        if fault is None:
            log.info("the client of %s has ended", pod)
            return
        if not answered:
            self._way.failed()
        level, why = (logging.WARNING, f": {fault}") if fault else (logging.INFO, "")
        log.log(level, "%s has ended a connection%s", pod, why)
        self._note("restarts", **({"fault": f"{pod}: {fault}"} if fault else {}))

    def _failed(self, error: ZenMlmdError) -> None:
        log.warning("no way to a pod: %s", error.message)
        self._note(fault=error.message)

    def _note(self, *counted: str, **changed: Any) -> None:
        with self._lock:
            if self._closed:
                return
            counts = {name: getattr(self._standing, name) + 1 for name in counted}
            self._standing = dataclasses.replace(self._standing, **counts, **changed)
            try:
                self._place.write(self._standing)
            except OSError as error:
                log.warning("how it stands cannot be noted: %s", error)


def _listen(port: int, preferred: int) -> socket.socket:
    if not port and preferred:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", preferred))
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        fault = str(error.strerror)
    raise ForwardError(
        f"127.0.0.1:{port}: cannot listen there: {fault}",
        hint="choose another local_port, or none for a free one",
    )


def main() -> None:
    """Stand, until SIGTERM."""
    given = json.load(sys.stdin)
    if os.fork():  # whoever started us is not to wait for us, or to be our parent
        os._exit(0)
    os.umask(0o077)
    target = Target(**given["wish"].pop("target"))
    wish = Wish(target=target, **given["wish"])
    place = Place(target.key)
    _log_into(place)
    try:
        held, forwarder = _started(wish, place, given["preferred"])
    except ZenMlmdError as error:
        log.error("it cannot stand: %s", error.message)  # noqa: TRY400 - no bug
        _report(error)
        return
    with held, contextlib.closing(forwarder), contextlib.suppress(_Stopped):
        signal.signal(signal.SIGTERM, _stop)
        if _report(forwarder.standing.port):
            forwarder.run()
        log.warning("whoever wanted it has gone")
        place.forget()
    log.info("stopped")


class _Stopped(BaseException):
    """SIGTERM came."""


def _stop(*_: object) -> None:
    raise _Stopped


def _started(wish: Wish, place: Place, preferred: int) -> tuple[IO[Any], Forwarder]:
    held = place.hold()
    with contextlib.ExitStack() as undone:
        undone.enter_context(held)
        forwarder = Forwarder(wish, place, preferred)
        undone.callback(forwarder.close)
        forwarder.begin()
        undone.pop_all()
    return held, forwarder


def _log_into(place: Place) -> None:
    handler = logging.handlers.RotatingFileHandler(
        place.log, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8"
    )
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)


def _report(outcome: int | ZenMlmdError) -> bool:
    """Tell who started us how it went, who waits for the end of our output; False if they went away."""
    try:
        os.write(1, pickle.dumps(outcome))
    except OSError:
        return False
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    return True


if __name__ == "__main__":
    main()
