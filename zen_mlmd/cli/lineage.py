"""`zen-mlmd lineage`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli.options import open_to_read, store_option
from zen_mlmd.cli.output import Column, note, print_data, print_rows

if TYPE_CHECKING:
    from zen_mlmd.lineage import LineageGraph

EDGE_FIELDS = ("from", "from_id", "event", "slots", "to", "to_id", "at", "reuse")


@click.command()
@click.argument("artifact")
@click.option("--upstream/--downstream", default=True, help="What it came from, or what came from it.")
@click.option("--max-hops", metavar="N", type=click.IntRange(min=0), help="Follow this many edges at most.")
@click.option("--include-logs", is_flag=True, help="Also log files that Kubeflow's steps made.")
@click.option("--include-conditions", is_flag=True, help="Also what only decided whether a TFX step runs.")
@click.option(
    "-o",
    "--output",
    "--format",
    "output",
    type=click.Choice(["tree", "table", "mermaid", "dot", "svg", "json", "yaml", "csv"]),
    default="tree",
    show_default=True,
    help="How it is printed.",
)
@store_option
def lineage(artifact: str, upstream: bool, output: str, **bounds: Any) -> None:
    """Show what an artifact was made from, or what was made from it.

    However far that is. ARTIFACT is its id, its URI, or a path, as churn/latest/train/model.

    In Python: graph = store.get_artifact("churn/latest/train/model").upstream(max_hops=...);
    graph.to_mermaid(), graph.to_dot(), graph.to_svg(), graph.to_json(), graph.to_dict()
    """
    with open_to_read() as store:
        start = store.get_artifact(artifact)
        graph = start.upstream(**bounds) if upstream else start.downstream(**bounds)
        _print(graph, output)


def _print(graph: LineageGraph, output: str) -> None:
    if output == "tree":
        click.echo(graph.to_text())
    elif output in ("json", "yaml"):
        print_data(graph.to_dict(), output)
    elif output in ("table", "csv"):
        columns = [Column(name, name.replace("_", " ")) for name in EDGE_FIELDS[:-2]]
        print_rows(_edges(graph), output, fields=EDGE_FIELDS, columns=columns)
    else:
        drawn = {"mermaid": graph.to_mermaid, "dot": graph.to_dot, "svg": graph.to_svg}[output]()
        click.echo(drawn.rstrip("\n"))
    if not graph.complete:
        note(f"cut at {len(graph.cut)} artifacts by --max-hops: there is more")


def _edges(graph: LineageGraph) -> Iterator[dict[str, Any]]:
    from zen_mlmd.lineage.export import slot_names

    for edge in graph.edges():
        yield {
            "from": edge.source.kind,
            "from_id": edge.source.id,
            "event": str(edge.event.type),
            "slots": slot_names(edge.event),
            "to": edge.target.kind,
            "to_id": edge.target.id,
            "at": edge.event.at,
            "reuse": edge.reuse,
        }
