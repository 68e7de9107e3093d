"""The small real pipeline that `zen-mlmd quickstart` runs: it fits a line through points.

It is also the shortest example of the API, and uses nothing but the standard library.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

from zen_mlmd.pipelines import get_step_context, pipeline, step
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.store import Store

Points = list[list[float]]

PIPELINE = "quickstart"
MODEL = "model"


@step(output_types={"points": "Dataset"})
def load(count: int, seed: int = 7) -> Annotated[Points, "points"]:
    """Make points along the line y = 3 x + 5, with noise."""
    chance = random.Random(seed)  # noqa: S311 -- data to play with
    places = [chance.uniform(0, 10) for _ in range(count)]
    return [[x, 3 * x + 5 + chance.gauss(0, 1)] for x in places]


@step(output_types={"seen": "Dataset", "unseen": "Dataset"})
def split(
    points: Points, share: float = 0.8
) -> tuple[Annotated[Points, "seen"], Annotated[Points, "unseen"]]:
    """Keep some points back to judge the model by."""
    cut = round(len(points) * share)
    return points[:cut], points[cut:]


@step(output_types={MODEL: "Model"})
def train(seen: Points, rounds: int, rate: float = 0.02) -> Annotated[dict[str, float], MODEL]:
    """Fit a line by gradient descent."""
    slope, offset = 0.0, 0.0
    for _ in range(rounds):
        misses = [(x, slope * x + offset - y) for x, y in seen]
        slope -= rate * sum(miss * x for x, miss in misses) / len(seen)
        offset -= rate * sum(miss for _, miss in misses) / len(seen)
    model = {"slope": slope, "offset": offset}
    get_step_context().log_output_properties({**model, "rounds": rounds}, output=MODEL)
    return model


@step(output_types={"report": "Metrics"})
def evaluate(model: dict[str, float], unseen: Points) -> Annotated[dict[str, float], "report"]:
    """Measure the model on points that it has not seen."""
    squares = [(model["slope"] * x + model["offset"] - y) ** 2 for x, y in unseen]
    report = {"error": (sum(squares) / len(squares)) ** 0.5}
    get_step_context().log_metrics(report)
    return report


@pipeline(name=PIPELINE)
def quickstart(rounds: int, count: int = 200) -> None:
    """Load, split, train, evaluate."""
    seen, unseen = split(load(count))
    evaluate(train(seen, rounds=rounds), unseen)


def run_demo(store: Store, artifacts: Path) -> tuple[PipelineRunView, PipelineRunView]:
    """Run the pipeline twice, with fewer and with more rounds of training.

    The second run finds in the cache what does not depend on the rounds; where the pipeline was run
    like this before, both find everything.

    Args:
        store: Where the runs are recorded.
        artifacts: The folder of the artifact store.

    Returns:
        Both runs.
    """
    here = quickstart.options(store=store, artifacts=artifacts)
    return here(rounds=50), here(rounds=500)
