"""Paths name things: `pipeline/run/step/output`."""

from __future__ import annotations

from urllib.parse import unquote


def quote_part(name: str) -> str:
    """Return a name as a part of a path; a slash in it is written `%2F`."""
    return name.replace("%", "%25").replace("/", "%2F")


def split_path(path: str) -> list[str]:
    """Return a path's parts."""
    return [unquote(part) for part in path.strip("/").split("/")] if path.strip("/") else []
