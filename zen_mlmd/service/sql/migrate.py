"""Brings MLMD's schema from version 6, 7, 8 or 9 to 10, in place, to what ml-metadata's own migration gives.

On SQLite and PostgreSQL it is one transaction. MySQL commits each change of a table by itself: there each
statement is left out where the table shows that it was done, so that a migration that was cut short,
ml-metadata's too, is gone on with. On PostgreSQL ml-metadata's own migration fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.errors import NotMlmdError
from zen_mlmd.service.sql.create import making
from zen_mlmd.service.sql.learn import Found, look
from zen_mlmd.service.sql.migration import EVENT_KEY, EVENTS_VERSION, statements
from zen_mlmd.service.sql.schema import NODES, OLDEST_VERSION, SCHEMA_VERSION, Schema

_WHAT: Final[Mapping[int, str]] = {
    7: "adds a column byte_value to the properties, and an index to EventPath",
    8: "indexes the values of properties; keeps of the events of an artifact, an execution and a type one",
    9: "adds a column external_id, unique, to types, artifacts, executions and contexts",
    10: "adds columns proto_value and bool_value to the properties",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One version further.

    Attributes:
        version: The schema's afterwards.
        what: What is done.
        loses: What is lost for ever by it; empty for nothing.
    """

    version: int
    what: str
    loses: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration will do.

    Attributes:
        location: Of the database.
        version: Of its schema now.
        steps: In order; none if there is nothing to do.
        at_once: All steps are one transaction; else a migration that is cut short is gone on with by another.
    """

    location: str
    version: int
    steps: tuple[Step, ...]
    at_once: bool

    def __str__(self) -> str:
        if not self.steps:
            return f"{self.location}: its MLMD schema is {self.version}, the newest: nothing is to be done"
        lines = [f"{self.location}: MLMD schema {self.version} -> {self.steps[-1].version}, in place"]
        for step in self.steps:
            lines.append(f"  to {step.version}: {step.what}")
            if step.loses:
                lines.append(f"     lost for ever: {step.loses}")
        lines += [
            "  all of it in one transaction"
            if self.at_once
            else "  each statement commits by itself; if it is cut short, call it again",
            "  back: with ml-metadata's downgrade_schema, which drops what the newer columns hold by then",
            "  an older ml-metadata opens it no more: stop its writers, and back the database up first",
        ]
        return "\n".join(lines)


def plan(connection: Connection, location: str) -> Plan:
    """Return what `migrate` would do; nothing is changed.

    Raises:
        NotMlmdError: There is no MLMD schema to migrate.
        SchemaVersionError: It is newer than 10, or older than 6.
    """
    found = look(connection)
    version = _version(found, location)
    steps = [
        Step(each, _WHAT[each], _lost_events(connection, found) if each == EVENTS_VERSION else "")
        for each in range(version + 1, SCHEMA_VERSION + 1)
    ]
    connection.rollback()
    return Plan(location, version, tuple(steps), at_once=found.dialect != "mysql")


def migrate(connection: Connection, location: str, progress: Callable[[int], object] | None = None) -> int:
    """Bring a database's schema to version 10; what `plan` names is done, and nothing else.

    Args:
        connection: Outside a transaction; it is left so.
        location: What messages call the database.
        progress: Told each version that was reached.

    Returns:
        The version that it had before.

    Raises:
        NotMlmdError: There is no MLMD schema to migrate.
        SchemaVersionError: It is newer than 10, or older than 6.
        ContentionError: Another process is at it.
    """
    with making(connection, location):
        found = look(connection)
        before = _version(found, location)
        for version in range(before + 1, SCHEMA_VERSION + 1):
            for statement in statements(connection, version):
                connection.exec_driver_sql(statement)
            environment = Schema(found.dialect).table("MLMDEnv")
            connection.execute(sa.update(environment).values(schema_version=version))
            if found.dialect == "mysql":
                connection.commit()
            if progress is not None:
                progress(version)
        look(connection).schema(location)
        connection.commit()
    return before


def _version(found: Found, location: str) -> int:
    if len(found.versions) != 1 or not OLDEST_VERSION <= found.versions[0] < SCHEMA_VERSION:
        return found.schema(location).version
    version = found.versions[0]
    missing = {"Type", *NODES} - found.present.keys()
    if missing:
        lacking = ", ".join(sorted(missing))
        raise NotMlmdError(
            f"{location}: it says that its MLMD schema is {version}, but it lacks {lacking}",
            hint="restore a backup",
        )
    return version


def _lost_events(connection: Connection, found: Found) -> str:
    if "Event" not in found.present:  # ml-metadata was cut short, and had left them out by then
        return ""
    event = Schema(found.dialect).table("Event")
    key = [event.c[each] for each in EVENT_KEY]
    more = sa.select((sa.func.count() - 1).label("more")).select_from(event)
    several = more.group_by(*key).having(sa.func.count() > 1).subquery()
    count = int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(several.c.more), 0))) or 0)
    return f"{count} older events of the same artifact, execution and type, with their paths" if count else ""
