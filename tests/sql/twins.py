"""The same requests to ml-metadata itself and to the SQL service, each with a database of its own."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy.engine import Connection

from tests.sql.places import Place
from zen_mlmd.errors import RejectedRequestError
from zen_mlmd.service import base
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.schema import COLUMNS
from zen_mlmd.service.sql.service import SqlService

_TIME = re.compile(r"(time|milliseconds)_since_epoch$")
_UNORDERED = ("Attribution", "Association")
"""ml-metadata writes their rows in the order of a hash table, so their own ids are anybody's."""


def database_of(place: Place, *, wait_s: float = 20.0) -> Database:
    """Make MLMD's tables in a place and open it, as the SQL service does."""
    place.with_connection(lambda connection: create(connection, "test"))
    return Database(place.engine, location="test", learn=learn, wait_s=wait_s)


class Twins:
    """Two services that are to say and to keep the same."""

    def __init__(self, theirs: Place, ours: Place) -> None:
        self.theirs = theirs
        self.ours = ours
        self.native = NativeService(theirs.config, location="native")
        self.native.open()
        self.database = database_of(ours)
        self.sql = SqlService(self.database)

    def close(self) -> None:
        self.native.close()
        self.sql.close()

    def both(self, method: str, request: Any) -> Any:
        """Send a request to both; return the answer, or the code of the refusal, once they are equal."""
        theirs, ours = (outcome(each, method, request) for each in (self.native, self.sql))
        assert _comparable(ours) == _comparable(theirs), f"{method}\n{request}\n{ours}\nis not\n{theirs}"
        return ours[0] if isinstance(ours, tuple) else ours

    def compare_tables(self) -> None:
        """Compare all rows of both; times only by whether there is one. ml-metadata is closed for it."""
        self.native.close()
        ours, theirs = (place.with_connection(table_rows) for place in (self.ours, self.theirs))
        for table in COLUMNS:
            assert ours[table] == theirs[table], table


def outcome(service: base.MetadataService, method: str, request: Any) -> Any:
    """Return the answer to a request, or a refusal's code and text."""
    answer = base.response_class(method)()
    try:
        answer.ParseFromString(service.forward(method, request.SerializeToString()))
    except base.Refusal as refusal:
        return refusal.code, refusal.text
    except RejectedRequestError as error:
        return "rejected", error.message
    return answer


def _comparable(found: Any) -> Any:
    if not isinstance(found, tuple):
        return found
    code, text = found
    # Databases have words of their own, and nodes and rows are quoted in several ways.
    return code, "" if code == base.INTERNAL else re.split(r"[:{`\d]", text)[0][:30]


def table_rows(connection: Connection) -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of all tables, as texts in the order of the texts."""
    found = {}
    for table, columns in COLUMNS.items():
        name = table.lower() if connection.dialect.name == "postgresql" else f"`{table}`"
        rows = connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}")
        found[table] = sorted(
            tuple(_shown(table, column, value) for column, value in zip(columns, row, strict=True))
            for row in rows
        )
    return found


def _shown(table: str, column: str, value: Any) -> str:
    if _TIME.search(column) and value and value > 1e12:
        return "a time"
    if column == "id" and table in _UNORDERED:
        return "an id"
    if column in ("input_type", "output_type") and value:  # maps in any order
        return json.dumps(json.loads(value), sort_keys=True)
    return repr(value)
