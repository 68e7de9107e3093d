"""Artifacts whose payload is gone, or is not what was recorded.

Where a hash was recorded the payload is read to its end; else it is only looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from zen_mlmd.errors import PayloadMissingError, ZenMlmdError
from zen_mlmd.loader import Loader
from zen_mlmd.model import Artifact
from zen_mlmd.payloads import exists, payload_hash
from zen_mlmd.payloads.places import shown
from zen_mlmd.service.finding import Finding

_AT_ONCE: Final = 8
"""Artifact stores answer slowly, and many at once."""

_GONE: Final = ("deleted", "marked_for_deletion", "abandoned", "reference", "pending")
"""States of artifacts that need no payload."""


def examine_payloads(loader: Loader, progress: Callable[[str], object]) -> list[Finding]:
    """Return what is wrong with the payloads of all artifacts that have a URI and are not deleted.

    Args:
        loader: Reads the store.
        progress: Told how much was read, at the end.
    """
    found: list[Finding] = []
    unreadable: dict[str, list[Artifact]] = {}
    artifacts = size_bytes = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looked = (each for page in loader.newest_artifacts() for each in pool.map(_look, _wanted(page)))
        for artifact, outcome in looked:
            artifacts += 1
            if isinstance(outcome, Finding):
                found.append(outcome)
            elif isinstance(outcome, str):
                unreadable.setdefault(outcome, []).append(artifact)
            else:
                size_bytes += outcome
    progress(f"payloads of {artifacts:,} artifacts were looked for, {size_bytes:,} bytes of them were read")
    return [*found, *(_unreadable(why, several) for why, several in unreadable.items())]


def _wanted(page: Sequence[Artifact]) -> list[Artifact]:
    return [each for each in page if each.uri and each.state not in _GONE]


def _look(artifact: Artifact) -> tuple[Artifact, Finding | str | int]:
    """Return an artifact with a finding, why its payload cannot be read, or how many bytes were."""
    try:
        return artifact, _compared(artifact)
    except PayloadMissingError:
        return artifact, _gone(artifact)
    except ZenMlmdError as error:
        scheme, separator, _ = artifact.uri.partition("://")
        reason = error.message.replace(artifact.uri, "...").replace(shown(artifact.uri), "...")
        return artifact, f"{scheme}{separator}: {reason}" if separator else reason


def _compared(artifact: Artifact) -> Finding | int:
    if not artifact.content_hash:
        return 0 if exists(artifact.uri) else _gone(artifact)
    payload = payload_hash(artifact.uri)
    if payload.content_hash == artifact.content_hash:
        return payload.size_bytes
    return Finding(
        "payload-changed",
        f"what lies at {shown(artifact.uri)} is not what was recorded",
        "restore it from a backup, or run its step again",
        subject=f"artifact {artifact.id}",
    )


def _gone(artifact: Artifact) -> Finding:
    return Finding(
        "payload-gone",
        f"nothing lies at {shown(artifact.uri)}",
        "restore it, or run its step again; is it on another machine's disk?",
        subject=f"artifact {artifact.id}",
    )


def _unreadable(why: str, artifacts: list[Artifact]) -> Finding:
    return Finding(
        "payload-unreadable",
        f"the payloads of {len(artifacts):,} artifacts cannot be looked at: {why}",
        "install what their URLs need, and give it its credentials",
        subject=f"artifact {artifacts[0].id}{' ...' if len(artifacts) > 1 else ''}",
    )
