"""`zen-mlmd`: the commands there are, and how each of them ends."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from zen_mlmd import __version__
from zen_mlmd.cli.options import store_option
from zen_mlmd.cli.safe import safe_lines
from zen_mlmd.errors import ZenMlmdError

COMMANDS = {
    "quickstart": ("quickstart", "Run a small real pipeline, and show what was recorded."),
    "pipelines": ("runs", "Pipelines that were recorded."),
    "runs": ("runs", "Runs of pipelines: list, show, compare."),
    "artifacts": ("artifacts", "What steps made and used: list, show."),
    "warnings": ("runs", "List rows that are broken or half written."),
    "lineage": ("lineage", "Show what an artifact was made from, or what was made from it."),
    "serve": ("serve", "Serve a store to MLMD clients over gRPC, until SIGTERM or Ctrl-C."),
    "token": ("tokens", "Tokens that clients of a server send: create, list, revoke."),
    "metadata-store": ("flavors", "Metadata stores: kept by name, their flavors, migrating them."),
    "artifact-store": ("flavors", "Artifact stores: where payloads are kept."),
    "orchestrator": ("flavors", "Orchestrators: what runs the steps of a pipeline."),
    "stack": ("stacks", "Stacks: a metadata store, an artifact store and an orchestrator."),
    "profile": ("stacks", "Profiles: several sets of components and stacks, of which one is in force."),
    "secret": ("stacks", "Secrets that settings refer to as ${secret:NAME}; they are never printed."),
    "completion": ("stacks", "Let a shell complete the commands."),
    "init": ("stacks", "Make a folder a project with settings of its own."),
    "prune": ("pruning", "Delete old runs, steps or artifacts, with what they alone made."),
    "doctor": ("doctor", "Look over a store, say what is wrong, and mend it."),
}
"""Name of a command to its module in this package, and its help in one line."""

_INTERRUPTED = 130  # as a shell counts: 128 and the signal's number
_MIGRATE = ("open_store(..., upgrade=True) migrates it", "`zen-mlmd metadata-store migrate` migrates it")
"""What the hint of an older schema says in Python, and in a shell."""

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; its own help needs none of them."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Return the commands' names, in the order in which a newcomer meets them."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is none of that name."""
        if cmd_name not in self.lazy:
            return None
        module = import_module(f"zen_mlmd.cli.{self.lazy[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog="Begin with: zen-mlmd quickstart",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="zen-mlmd", message="%(prog)s %(version)s")
@store_option
def cli() -> None:
    """Record pipelines in ML Metadata (MLMD), read them back, ask for their lineage."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: What stands after `zen-mlmd`; by default this process's arguments.

    Returns:
        The exit code: 0, or what the command returns; 1 for an error of ours, or if the output cannot be
        written, which is printed to stderr; 2 for a call that click cannot read; 130 after Ctrl-C. Where the
        reader of our output went away, click ends the process with 1. Any other exception is a bug, and is
        raised.
    """
    _replace_closed_streams()
    _never_fail_to_encode()
    try:
        code = cli.main(args, prog_name="zen-mlmd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    except ZenMlmdError as error:
        click.echo(safe_lines(str(error).replace(*_MIGRATE)), err=True)
        return 1
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        _let_output_go()
        click.echo(f"the output cannot be written: {error.strerror}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _replace_closed_streams() -> None:
    """Let what goes to a closed output or error stream go nowhere.

    Its file descriptor is free for the next file that is opened: it should not be the database.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def _let_output_go() -> None:
    """Let what is left of the output go nowhere: Python would try it again as it ends, and fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _never_fail_to_encode() -> None:
    """Let a name that the terminal's encoding has no form for be shown as its escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
