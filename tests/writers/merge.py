"""One database out of several: the rows of one are copied into another with new ids, types by their names.

On MLMD's tables as of schema version 10, with Python's own SQLite, while nobody else has the files open.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NODES = ("Artifact", "Execution", "Context")
_LINKS = (
    ("ParentContext", {"context_id": "Context", "parent_context_id": "Context"}),
    ("Association", {"context_id": "Context", "execution_id": "Execution"}),
    ("Attribution", {"context_id": "Context", "artifact_id": "Artifact"}),
)


@dataclass
class Ids:
    """The new ids of what was copied, by the old ones."""

    artifacts: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    contexts: dict[int, int] = field(default_factory=dict)


def merge(source: Path, target: Path) -> Ids:
    """Copy all rows of one database into another; return their new ids.

    What Kubeflow Pipelines keeps ids of executions in is kept right: `parent_dag_id`, `cached_execution_id`.
    """
    ids: dict[str, dict[int, int]] = {}
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as write, write:
        read.row_factory = sqlite3.Row
        ids["Type"] = _types(read, write)
        for table in _NODES:
            ids[table] = _copied(read, write, table, {"type_id": ids["Type"]})
        for table in _NODES:
            owner = f"{table.lower()}_id"
            for row in read.execute(f"SELECT * FROM {table}Property"):
                made = {**dict(row), owner: ids[table][row[owner]]}
                _insert(write, f"{table}Property", made, "OR IGNORE" if table == "Context" else "")
        for execution in ids["Execution"].values():
            _point(write, execution, "parent_dag_id", "int_value", ids["Execution"])
            _point(write, execution, "cached_execution_id", "string_value", ids["Execution"])
        ids["Event"] = _copied(
            read, write, "Event", {"artifact_id": ids["Artifact"], "execution_id": ids["Execution"]}
        )
        for row in read.execute("SELECT * FROM EventPath ORDER BY rowid"):
            _insert(write, "EventPath", {**dict(row), "event_id": ids["Event"][row["event_id"]]})
        for table, keys in _LINKS:
            _copied(read, write, table, {key: ids[to] for key, to in keys.items()})
    return Ids(ids["Artifact"], ids["Execution"], ids["Context"])


def _types(read: sqlite3.Connection, write: sqlite3.Connection) -> dict[int, int]:
    known = {
        (name, kind): number
        for number, name, kind in write.execute("SELECT id, name, type_kind FROM Type WHERE version IS NULL")
    }
    ids: dict[int, int] = {}
    for row in read.execute("SELECT * FROM Type ORDER BY id"):
        key = (row["name"], row["type_kind"])
        ids[row["id"]] = known[key] if key in known else _insert(write, "Type", {**dict(row), "id": None})
    for row in read.execute("SELECT * FROM TypeProperty"):
        _insert(write, "TypeProperty", {**dict(row), "type_id": ids[row["type_id"]]}, "OR IGNORE")
    for row in read.execute("SELECT * FROM ParentType"):
        _insert(write, "ParentType", {key: ids[value] for key, value in dict(row).items()}, "OR IGNORE")
    return ids


def _copied(
    read: sqlite3.Connection, write: sqlite3.Connection, table: str, keys: dict[str, dict[int, int]]
) -> dict[int, int]:
    """Copy a table, whose columns `keys` are ids; return the new ids of its rows.

    A context of a type and a name that is there already is that one.
    """
    ids: dict[int, int] = {}
    for row in read.execute(f"SELECT * FROM {table} ORDER BY rowid"):
        made = {**dict(row), **{key: new[row[key]] for key, new in keys.items()}}
        there = None
        if table == "Context":
            where = "SELECT id FROM Context WHERE type_id = :type_id AND name = :name"
            there = write.execute(where, made).fetchone()
        if "id" in made:
            made["id"] = None
            ids[row["id"]] = there[0] if there else _insert(write, table, made)
        else:
            _insert(write, table, made)
    return ids


def _point(write: sqlite3.Connection, execution: int, name: str, column: str, ids: dict[int, int]) -> None:
    """Make a property that is an execution's id the new one."""
    where = "WHERE execution_id = ? AND name = ? AND is_custom_property"
    found = write.execute(f"SELECT {column} FROM ExecutionProperty {where}", (execution, name)).fetchone()
    if found is not None:
        new = ids[int(found[0])]
        write.execute(
            f"UPDATE ExecutionProperty SET {column} = ? {where}",
            (str(new) if column == "string_value" else new, execution, name),
        )


def _insert(write: sqlite3.Connection, table: str, row: dict[str, Any], how: str = "") -> int:
    columns = ", ".join(f"`{each}`" for each in row)
    values = ", ".join("?" * len(row))
    cursor = write.execute(f"INSERT {how} INTO {table} ({columns}) VALUES ({values})", tuple(row.values()))
    return int(cursor.lastrowid or 0)
