"""`zen-mlmd quickstart`."""

from __future__ import annotations

from pathlib import Path

import click

from zen_mlmd.cli.options import store_was_chosen
from zen_mlmd.cli.safe import safe, safe_lines

_FOLDER = "zen_mlmd_quickstart"


@click.command()
@click.option(
    "--folder",
    metavar="DIR",
    default=_FOLDER,
    show_default=True,
    help="Where everything is kept; made if missing.",
)
def quickstart(folder: str) -> None:
    """Run a small real pipeline, and show what was recorded.

    It is run twice, the second time with another parameter.

    Everything is in one folder: an SQLite file of metadata, and the artifacts. Nothing is sent anywhere.
    It may be called again in the same folder: all steps are found in the cache then.

    In Python: zen_mlmd.cli.demo is the pipeline, and an example of @step and @pipeline.
    """
    if store_was_chosen():
        raise click.UsageError("the quickstart has a store of its own: choose its --folder")
    from zen_mlmd.cli.demo import MODEL, PIPELINE, run_demo
    from zen_mlmd.cli.runs import print_steps
    from zen_mlmd.flavors import SqliteConfig
    from zen_mlmd.store import open_store

    place = _made(Path(folder))
    database = place / "metadata.db"
    with open_store(SqliteConfig(path=str(database))) as store:
        runs = run_demo(store, place.absolute() / "artifacts")
        for run in runs:
            click.echo(f"Run {safe(run.name)}: {run.status}, with {_parameters(dict(run.parameters))}")
            print_steps(run.step_runs.to_dicts(), "table")
            click.echo()
        path = f"{PIPELINE}/latest/train/{MODEL}"
        model = store.get_artifact(path)
        click.echo("What the model was made from:\n")
        click.echo(model.upstream().to_text())
        click.echo(f"\nWhy it is as it is:\n\n{safe_lines(str(model.why()))}\n")
    _next(f"{PIPELINE}/latest/load/points", _url(database))


def _made(folder: Path) -> Path:
    from zen_mlmd.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made: {error.strerror}", hint="name another with --folder"
        ) from None
    return folder


def _next(path: str, url: str) -> None:
    import shlex

    store = shlex.quote(url)
    click.echo(f"Now try:\n  {_program()} lineage {path} --downstream --store {store}")


def _program() -> str:
    """Return what calls this program in this shell, where its environment may not be active."""
    import shlex
    import shutil
    import sys

    if shutil.which("zen-mlmd"):
        return "zen-mlmd"
    called = Path(sys.argv[0])
    if called.name == "zen-mlmd":
        return shlex.quote(str(called.absolute()))
    return f"{shlex.quote(sys.executable)} -m zen_mlmd"


def _url(database: Path) -> str:
    from urllib.parse import quote

    return f"sqlite:///{quote(str(database))}"


def _parameters(parameters: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in parameters.items())
