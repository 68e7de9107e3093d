"""Paths name things: `pipeline/run/step/output`; of a step in a group `pipeline/run/group/step/output`.

A step that ran several times in its run has its last attempt under its name, and each earlier one as
`step#id`; of an output that is a list, `output[3]` is the fourth artifact. In a name, a slash is written
`%2F`, and so are the signs that would mean one of those; the empty name is `%`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_ATTEMPT = re.compile(r"(.*)#([0-9]{1,19})", re.DOTALL)
_PLACE = re.compile(r"(.*)\[([0-9]{1,19})\]", re.DOTALL)


def quote_part(name: str) -> str:
    """Return a name as a part of a path."""
    return name.replace("%", "%25").replace("/", "%2F") or "%"


def quote_step(name: str, attempt: int | None = None) -> str:
    """Return a step as a part of a path; `attempt` is the id of one that is not the last."""
    quoted = quote_part(name).replace("#", "%23")
    return quoted if attempt is None else f"{quoted}#{attempt}"


def quote_slot(name: str, place: int | None = None) -> str:
    """Return an output as a part of a path; `place` is where it stands in a list."""
    quoted = quote_part(name).replace("[", "%5B")
    return quoted if place is None else f"{quoted}[{place}]"


def split_path(path: str) -> list[str]:
    """Return a path's parts, still quoted."""
    return path.strip("/").split("/") if path.strip("/") else []


def unquote_part(part: str) -> str:
    """Return the name that a part of a path stands for."""
    return "" if part == "%" else unquote(part)


def unquote_step(part: str) -> tuple[str, int | None]:
    """Return a step's name, and the id of its attempt if it names one."""
    return _unquote(part, _ATTEMPT)


def unquote_slot(part: str) -> tuple[str, int | None]:
    """Return an output's name, and the place in its list if it names one."""
    return _unquote(part, _PLACE)


def _unquote(part: str, pattern: re.Pattern[str]) -> tuple[str, int | None]:
    match = pattern.fullmatch(part)
    return (unquote_part(part), None) if match is None else (unquote_part(match[1]), int(match[2]))
