"""A real MLMD gRPC server for tests: ml-metadata's C++ core behind grpcio, in a process of its own.

python -m tests.services.grpc_server --sqlite FILE --port 0

prints the port that it listens on, and serves until it is killed. As with MLMD's own server, a request
with an unset `Value` ends the process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from typing_extensions import Self

from tests.services import Certificates, free_port, make_certificates, new_directory, start_child


class GrpcServer:
    """One MLMD gRPC server on a free port of 127.0.0.1, over a SQLite file.

    Attributes:
        port: The TCP port; the same after `restart`.
        address: `host:port`.
        certificates: The PEM files, if made with `tls` or `mutual_tls`.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        sqlite: Path,
        *,
        tls: bool = False,
        mutual_tls: bool = False,
        require_metadata: Mapping[str, str] | None = None,
        max_message: int | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            sqlite: The database file; made if it is missing.
            tls: Speak TLS only, with a certificate for 127.0.0.1 and localhost.
            mutual_tls: `tls`, and clients must show a certificate of the same authority.
            require_metadata: Calls without this request metadata are UNAUTHENTICATED.
            max_message: The largest message in bytes, both ways; None is gRPC's default (4 MiB received).
        """
        self.sqlite = sqlite
        self.port = free_port()
        directory = new_directory("grpc")
        self.certificates: Certificates | None = None
        if tls or mutual_tls:
            self.certificates = make_certificates(directory)
        self._log = directory / "log"
        self._mutual_tls = mutual_tls
        self._require_metadata = dict(require_metadata or {})
        self._max_message = max_message
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it takes calls.

        Raises:
            RuntimeError: It ended at once; the text has what it said.
        """
        root = Path(__file__).resolve().parents[2]
        with self._log.open("ab") as log:
            self._process = start_child(self._command(), stdout=subprocess.PIPE, stderr=log, cwd=root)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != str(self.port).encode():
            self.kill()
            log_end = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the MLMD gRPC server did not start; its log ends with:\n{log_end}")

    def stop(self) -> None:
        """Stop the server; the calls that it has begun are finished."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def restart(self) -> None:
        """Stop the server if it runs, and start it again on the same port and file."""
        self.stop()
        self.start()

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "tests.services.grpc_server"]
        command += ["--sqlite", str(self.sqlite.resolve()), "--port", str(self.port)]
        if self.certificates is not None:
            command += ["--tls-cert", str(self.certificates.server_cert)]
            command += ["--tls-key", str(self.certificates.server_key)]
            if self._mutual_tls:
                command += ["--client-ca", str(self.certificates.ca)]
        for key, value in self._require_metadata.items():
            command += ["--require-metadata", f"{key}={value}"]
        if self._max_message is not None:
            command += ["--max-message", str(self._max_message)]
        return command

    def _ended(self) -> None:
        assert self._process is not None
        self._process.communicate(timeout=30)
        self._process = None


def _handler(sqlite: str, required: set[tuple[str, str]]) -> Any:
    import grpc
    from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as core
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    codes = {code.value[0]: code for code in grpc.StatusCode}
    config = mlmd.ConnectionConfig(sqlite=mlmd.SqliteMetadataSourceConfig(filename_uri=sqlite))
    handle = core.CreateMetadataStore(config.SerializeToString(), mlmd.MigrationOptions().SerializeToString())
    one_at_a_time = threading.Lock()  # a handle is not made for several threads

    def behaviour(method: Callable[[Any, bytes], tuple[bytes, bytes, int]]) -> Any:
        def call(request: bytes, context: Any) -> bytes:
            if not required <= {(key, value) for key, value in context.invocation_metadata()}:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "request metadata is missing")
            with one_at_a_time:
                response, message, code = method(handle, request)
            if code:
                context.abort(codes[code], message.decode(errors="replace"))
            return response

        return grpc.unary_unary_rpc_method_handler(call)

    methods = {name: behaviour(getattr(core, name)) for name in dir(core) if name.startswith(("Get", "Put"))}
    return grpc.method_handlers_generic_handler("ml_metadata.MetadataStoreService", methods)


def _bind(server: Any, options: argparse.Namespace) -> int:
    import grpc

    address = f"{GrpcServer.host}:{options.port}"
    if options.tls_cert is None:
        return int(server.add_insecure_port(address))
    pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
    authority = options.client_ca.read_bytes() if options.client_ca else None
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
    return int(server.add_secure_port(address, credentials))


def main(arguments: Sequence[str]) -> None:
    """Serve a SQLite file until SIGTERM."""
    import signal

    import grpc

    parser = argparse.ArgumentParser(prog="python -m tests.services.grpc_server")
    parser.add_argument("--sqlite", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--client-ca", type=Path)
    parser.add_argument("--require-metadata", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--max-message", type=int)
    options = parser.parse_args(arguments)

    settings = [("grpc.so_reuseport", 0)]
    if options.max_message is not None:
        settings += [("grpc.max_receive_message_length", options.max_message)]
        settings += [("grpc.max_send_message_length", options.max_message)]
    required = {tuple(pair.split("=", 1)) for pair in options.require_metadata}
    server = grpc.server(
        futures.ThreadPoolExecutor(4), handlers=[_handler(options.sqlite, required)], options=settings
    )
    port = _bind(server, options)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=5))
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
