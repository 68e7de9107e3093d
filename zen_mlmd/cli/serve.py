"""`zen-mlmd serve`: a store for MLMD clients, over gRPC."""

from __future__ import annotations

from typing import Any

import click

from zen_mlmd.cli.options import chosen_config, store_option


@click.command()
@store_option
@click.option(
    "--bind", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True, help="Listen there."
)
@click.option(
    "--workers", metavar="N", type=int, default=1, show_default=True, help="Processes that serve it."
)
@click.option("--tls-cert", metavar="PEM", default="", help="The server's certificate, with its chain.")
@click.option("--tls-key", metavar="PEM", default="", help="Its private key.")
@click.option(
    "--client-ca", metavar="PEM", default="", help="Clients must show a certificate of this authority."
)
@click.option("--tokens", metavar="FILE", default="", help="Clients must send a token of this file.")
@click.option("--read-only", is_flag=True, help="Refuse every write.")
@click.option("--insecure", is_flag=True, help="Listen to other machines without TLS or authentication.")
@click.option(
    "--metrics", metavar="HOST:PORT", default="", help="Prometheus metrics, /livez and /readyz there."
)
@click.option(
    "--log",
    type=click.Choice(["calls", "errors", "none"]),
    default="calls",
    show_default=True,
    help="Which calls get a line of JSON on stderr.",
)
@click.option(
    "--max-message-bytes",
    metavar="N",
    type=int,
    default=100 * 2**20,
    show_default=True,
    help="Longest message, either way.",
)
@click.option(
    "--max-calls",
    metavar="N",
    type=int,
    default=128,
    show_default=True,
    help="Calls that a worker has open at once; more are refused.",
)
@click.option(
    "--deadline",
    "deadline_s",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    help="Longest time for one call.",
)
@click.option(
    "--grace",
    "grace_s",
    metavar="SECONDS",
    type=float,
    default=20.0,
    show_default=True,
    help="How long open calls may go on when it is stopped.",
)
@click.option("--create", is_flag=True, help="Make a MySQL database that is not there yet.")
@click.option("--upgrade", is_flag=True, help="Migrate an older schema, in place and for ever.")
def serve(*, create: bool, upgrade: bool, **settings: Any) -> None:
    """Serve a store to MLMD clients over gRPC, until SIGTERM or Ctrl-C.

    TFX, Kubeflow Pipelines and its UI, and clients in any language speak to it as to MLMD's own server.
    """
    from zen_mlmd.server import ServerConfig
    from zen_mlmd.server import serve as run

    run(chosen_config(), ServerConfig.checked(**settings), create=create, upgrade=upgrade)
