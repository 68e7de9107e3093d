"""What an account may do with MLMD's tables, found out without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql.schema import COLUMNS, Schema

_WRITES: Final = ("INSERT", "UPDATE", "DELETE")
_DDL: Final = frozenset(("ALTER", "CREATE", "DROP", "INDEX"))
# https://mariadb.com/kb/en/mariadb-error-codes/: no such right on a table, or on a column of it.
_DENIED: Final = (1142, 1143)

_POSTGRESQL: Final = (
    "SELECT c.relname, pg_catalog.has_table_privilege(c.oid, 'SELECT'),"
    " pg_catalog.has_table_privilege(c.oid, 'INSERT'), pg_catalog.has_table_privilege(c.oid, 'UPDATE'),"
    " pg_catalog.has_table_privilege(c.oid, 'DELETE'), pg_catalog.pg_has_role(c.relowner, 'USAGE')"
    " FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(c.oid)"
)
_POSTGRESQL_MAY_CREATE: Final = "SELECT pg_catalog.has_schema_privilege(current_schema(), 'CREATE')"
_MYSQL_DDL: Final = (
    "SELECT grantee, privilege_type FROM information_schema.user_privileges UNION ALL"
    " SELECT grantee, privilege_type FROM information_schema.schema_privileges"
    " WHERE database() LIKE table_schema OR database() = table_schema"
)
_MYSQL_ROLES: Final = "SELECT count(*) FROM information_schema.applicable_roles"


def examine(connection: Connection, schema: Schema) -> list[Finding]:
    """Return which rights the account lacks; statements that would change no row are tried."""
    if schema.dialect == "mysql":
        return [*_lacking(_mysql_denied(connection, schema)), *_mysql_ddl(connection)]
    if schema.dialect == "postgresql":
        return list(_postgresql(connection))
    return []


def _lacking(denied: dict[str, list[str]]) -> Iterator[Finding]:
    """Yield a finding of what may not be read, and one of what may not be written."""
    for code, rights, what, remedy in (
        ("grant-read", ("SELECT",), "what lies in them cannot be read", "GRANT SELECT"),
        ("grant-write", _WRITES, "runs cannot be recorded", "GRANT INSERT, UPDATE, DELETE"),
    ):
        found = {right: denied[right] for right in rights if denied.get(right)}
        if found:
            told = "; ".join(f"{right} on {_few(tables)}" for right, tables in found.items())
            yield Finding(
                code,
                f"the account may not {told}: {what}",
                f"{remedy} ON its tables; or only read",
                subject="grants",
            )


def _few(tables: list[str]) -> str:
    return "all tables" if len(tables) == len(COLUMNS) else ", ".join(tables)


def _mysql_denied(connection: Connection, schema: Schema) -> dict[str, list[str]]:
    denied: dict[str, list[str]] = {}
    for table in COLUMNS:
        columns = schema.present[table]
        names = ", ".join(f"`{each}`" for each in columns)
        first = f"`{next(iter(columns))}`"
        # The server checks rights before it looks for rows, of which there are none.
        statements = {
            "SELECT": f"SELECT {names} FROM `{table}` WHERE 1 = 0",  # noqa: S608 - MLMD's own names
            "INSERT": f"INSERT INTO `{table}` ({names}) SELECT {_nulls(columns)} FROM dual WHERE 1 = 0",  # noqa: S608
            "UPDATE": f"UPDATE `{table}` SET {first} = 0 WHERE 1 = 0",  # noqa: S608
            "DELETE": f"DELETE FROM `{table}` WHERE 1 = 0",  # noqa: S608
        }
        for right, statement in statements.items():
            if _is_denied(connection, statement):
                denied.setdefault(right, []).append(table)
    connection.rollback()
    return denied


def _nulls(columns: object) -> str:
    return ", ".join("NULL" for _ in columns)  # type: ignore[attr-defined]


def _is_denied(connection: Connection, statement: str) -> bool:
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        code = error.orig.args[0] if error.orig is not None and error.orig.args else None
        if error.connection_invalidated:
            raise
        return code in _DENIED
    return False


def _mysql_ddl(connection: Connection) -> Iterator[Finding]:
    try:
        has_roles = connection.exec_driver_sql(_MYSQL_ROLES).scalar()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        has_roles = 0  # a MySQL that is older than 8.0.19
    if has_roles:
        return  # what roles may do is not told there
    user, _, host = str(connection.exec_driver_sql("SELECT current_user()").scalar()).rpartition("@")
    mine = f"'{user}'@'{host}'"
    rights = {
        str(right).upper() for grantee, right in connection.exec_driver_sql(_MYSQL_DDL) if grantee == mine
    }
    missing = sorted(_DDL - rights)
    if missing:
        yield _no_ddl(
            f"the account may not {', '.join(missing)}", f"GRANT {', '.join(missing)} ON `<database>`.*"
        )


def _no_ddl(what: str, remedy: str) -> Finding:
    return Finding(
        "grant-ddl",
        f"{what}: it can record, but not migrate or mend the tables",
        f"{remedy}, or let another account do that",
        subject="grants",
    )


def _postgresql(connection: Connection) -> Iterator[Finding]:
    mlmd = {name.lower(): name for name in COLUMNS}
    denied: dict[str, list[str]] = {}
    foreign = []
    for table, *may, owns in connection.exec_driver_sql(_POSTGRESQL):
        if table in mlmd:
            for right, allowed in zip(("SELECT", *_WRITES), may, strict=True):
                if not allowed:
                    denied.setdefault(right, []).append(mlmd[table])
            if not owns:
                foreign.append(mlmd[table])
    yield from _lacking(denied)
    if foreign or not connection.exec_driver_sql(_POSTGRESQL_MAY_CREATE).scalar():
        yield _no_ddl(
            "the account does not own the tables, or may not CREATE in their schema",
            "ALTER TABLE ... OWNER TO",
        )
