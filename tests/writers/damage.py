"""Damages rows of an MLMD database. Run by a process of its own: two SQLite libraries must not share a file.

    python damage.py metadata.db < damages.json

Damages are applied in turn; one that SQLite refuses, or that finds no row, does nothing. What each
touched is printed as JSON: `[table, column values before]` in a list.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
from typing import Any

TABLES = {
    "Type": ("id", "name", "type_kind"),
    "Artifact": ("id", "type_id", "uri", "state", "name", "create_time_since_epoch"),
    "Execution": ("id", "type_id", "last_known_state", "name", "create_time_since_epoch"),
    "Context": ("id", "type_id", "name", "create_time_since_epoch", "last_update_time_since_epoch"),
    "ArtifactProperty": ("artifact_id", "name", "is_custom_property", "int_value", "string_value"),
    "ExecutionProperty": (
        "execution_id",
        "name",
        "is_custom_property",
        "int_value",
        "double_value",
        "string_value",
    ),
    "ContextProperty": ("context_id", "name", "is_custom_property", "string_value"),
    "Event": ("artifact_id", "execution_id", "type", "milliseconds_since_epoch"),
    "EventPath": ("event_id", "is_index_step", "step_index", "step_key"),
    "Association": ("context_id", "execution_id"),
    "Attribution": ("context_id", "artifact_id"),
    "ParentContext": ("context_id", "parent_context_id"),
}


def damage(path: str, damages: list[dict[str, Any]]) -> list[list[Any]]:
    """Apply damages; return the rows that they touched, as they were and as they are."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = OFF")
    touched: list[list[Any]] = []
    for each in damages:
        table = each["table"]
        rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
        if not rows:
            continue
        row = rows[each["row"] % len(rows)]
        before = _row(connection, table, row)
        try:
            if each["action"] == "delete":
                connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            else:
                columns = TABLES[table]
                column = columns[each["column"] % len(columns)]
                connection.execute(
                    f"UPDATE {table} SET {column} = {_place(each['value'])} WHERE rowid = ?",
                    (_value(each["value"]), row),
                )
        except (sqlite3.IntegrityError, OverflowError):
            continue
        touched.append([table, before])
        touched.append([table, _row(connection, table, row)])
    connection.commit()
    connection.close()
    return touched


def _row(connection: sqlite3.Connection, table: str, row: int) -> dict[str, Any]:
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    cursor = connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", (row,))
    found = cursor.fetchone() or ()
    names = [each[0] for each in cursor.description]
    return {
        name: value if not isinstance(value, bytes) else "bytes"
        for name, value in zip(names, found, strict=False)
    }


def _value(given: Any) -> Any:
    """Return what a value stands for: bytes that are stored as text are base64 in a dict."""
    if not isinstance(given, dict):
        return given
    return base64.b64decode(given["bytes"])


def _place(given: Any) -> str:
    """SQLite keeps bytes that are cast to text as they are, whatever they are."""
    return "CAST(? AS TEXT)" if isinstance(given, dict) and given["as_text"] else "?"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(damage(sys.argv[1], json.load(sys.stdin))))
