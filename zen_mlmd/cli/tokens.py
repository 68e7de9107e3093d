"""`zen-mlmd token`: who may call a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, print_rows

TOKEN_FIELDS = ("name", "scope", "created", "expires", "valid")


@click.group()
def token() -> None:
    """Tokens that clients of a server send: create, list, revoke.

    Their file holds only hashes.
    """


def _file_option(function: Any) -> Any:
    return click.option(
        "--file",
        "path",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="The file that `zen-mlmd serve --tokens` is given.",
    )(function)


@token.command("create")
@_file_option
@click.option(
    "--scope",
    type=click.Choice(["read", "write"]),
    default="read",
    show_default=True,
    help="For reading only, or for both.",
)
@click.option(
    "--days",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="Valid for so long.  [default: for ever]",
)
@click.argument("name")
def create(path: Path, scope: Any, days: float | None, name: str) -> None:
    """Make a token for NAME and print it: it is shown only now."""
    from zen_mlmd.server.tokens import create_token

    click.echo(create_token(path, name, scope, days=days))


@token.command("list")
@_file_option
@output_option
def list_(path: Path, output: str) -> None:
    """List whose tokens there are, and until when."""
    from datetime import datetime, timezone

    from zen_mlmd.server.tokens import read_tokens

    now = datetime.now(timezone.utc)
    rows = [
        {
            "name": each.name,
            "scope": each.scope,
            "created": each.created,
            "expires": each.expires,
            "valid": each.is_valid(now),
        }
        for each in read_tokens(path)
    ]
    columns = [Column(field, field) for field in TOKEN_FIELDS]
    print_rows(rows, output, fields=TOKEN_FIELDS, columns=columns)


@token.command("revoke")
@_file_option
@click.argument("name")
def revoke(path: Path, name: str) -> None:
    """Take away all tokens of NAME; running servers know it within seconds."""
    from zen_mlmd.server.tokens import revoke_tokens

    count = revoke_tokens(path, name)
    click.echo(f"{count} token{'s' if count != 1 else ''} of {name} revoked")
