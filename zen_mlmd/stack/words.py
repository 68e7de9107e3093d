"""The kinds of component there are, and words for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["metadata_store", "artifact_store", "orchestrator"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


def title(kind: str) -> str:
    """Return a kind of component in words: `metadata store`."""
    return kind.replace("_", " ")


def a_title(kind: str) -> str:
    """Return it with its article: `an orchestrator`."""
    return f"{'a' if kind == 'metadata_store' else 'an'} {title(kind)}"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint: what was meant, or what there is."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {', '.join(names)}" if names else "there are none"
