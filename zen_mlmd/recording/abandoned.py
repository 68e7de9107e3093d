"""Recording that a run or a step has ended whose own process never said so."""

from __future__ import annotations

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.dialects import base, tfx, zen
from zen_mlmd.model import Failure, PipelineRun, Status, StepRun, to_millis
from zen_mlmd.recording.types import Registry, put_masked
from zen_mlmd.service.client import Client, resend

TYPE = "abandoned"
"""What stands as the failure's type, where an exception's class does otherwise."""


def end_abandoned_run(client: Client, run: PipelineRun, steps: list[StepRun], message: str) -> bool:
    """Record a run of ours as failed, after those of its steps that have not ended; return whether it was.

    It ends at the last time that something was written of it. Its process, if it lives after all, goes on and
    records its own end over this one.

    Args:
        client: Asks the store.
        run: As it was read; nothing is written if it was written since then.
        steps: Its step runs.
        message: Why it is taken for abandoned.
    """
    found = client.contexts([run.id]).get(run.id)
    if found is None or zen.has_ended(found) or found.last_update_time_since_epoch != _millis(run):
        return False
    if not all(end_abandoned_step(client, each, message) for each in steps if not each.status.ended):
        return False
    last = max([_millis(run), *map(_millis, steps)])
    context = mlmd.Context(id=run.id, name=found.name, type_id=Registry(client).type_id("context", tfx.RUN))
    failure = Failure(type=TYPE, message=message)
    zen.write_run_end(context, status=Status.FAILED, ended_ms=last, failure=failure)
    put_masked(client, context, list(zen.written_keys(context)))
    return True


def end_abandoned_step(client: Client, step: StepRun, message: str) -> bool:
    """Record a step run of ours as failed, as it was last written; return whether it was.

    Args:
        client: Asks the store.
        step: As it was read; nothing is written if it was written since then.
        message: Why it is taken for abandoned.
    """
    found = client.executions([step.id]).get(step.id)
    if found is None or base.status(found).ended or found.last_update_time_since_epoch != _millis(step):
        return False
    ended = mlmd.Execution(id=found.id, type_id=found.type_id, name=found.name)
    ended.last_known_state = zen.STATES[Status.FAILED]
    failure = Failure(type=TYPE, message=message)
    zen.write_step_end(ended, ended_ms=_millis(step), metrics={}, failure=failure)
    request = rpc.PutExecutionsRequest(executions=[ended])
    request.update_mask.paths.extend(
        ["last_known_state", *(f"custom_properties.{key}" for key in ended.custom_properties)]
    )
    client.write("PutExecutions", request, resend)
    return True


def _millis(record: PipelineRun | StepRun) -> int:
    return 0 if record.updated_at is None else to_millis(record.updated_at)
