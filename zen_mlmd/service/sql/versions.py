"""What is wrong with the version of MLMD's schema that a database states, and with the tables behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql import ddl
from zen_mlmd.service.sql.learn import Found
from zen_mlmd.service.sql.schema import COLUMNS, OLDEST_VERSION, SCHEMA_VERSION, columns_of

_MIGRATE: Final = "`zen-mlmd metadata-store migrate`"
_ENVIRONMENT: Final = "MLMDEnv"


def examine(found: Found) -> list[Finding]:
    """Return what is wrong with a database's schema as a whole; nothing if its tables can be examined."""
    if not found.present:
        return [_no_tables(found)]
    if len(found.versions) != 1:
        return [_several(found) if found.versions else _no_version(found)]
    return list(_of_version(found, found.versions[0]))


def _no_tables(found: Found) -> Finding:
    holds = f"{found.others} tables of others" if found.others else "nothing"
    return Finding(
        "tables-missing",
        f"it has none of MLMD's tables: it holds {holds}",
        "is it the right database? if so, open it once: zen_mlmd.open_store(..., create=True)",
    )


def _no_version(found: Found) -> Finding:
    what = f"it has {len(found.present)} of MLMD's {len(COLUMNS)} tables, and no row says of which version"
    if _newest(found):
        return Finding(
            "version-missing",
            what,
            f"its columns are those of schema {SCHEMA_VERSION}: that is written down",
            subject=_ENVIRONMENT,
            statements=(
                ddl.create_table(found.dialect, _ENVIRONMENT),
                f"INSERT INTO {_name(found)} (schema_version) VALUES ({SCHEMA_VERSION})",  # noqa: S608
            ),
        )
    return Finding(
        "version-missing",
        what,
        "is another process making them? else they were left half made, or are of 2019: drop them",
        subject=_ENVIRONMENT,
    )


def _several(found: Found) -> Finding:
    what = f"its table MLMDEnv says {len(found.versions)} versions of MLMD's schema:"
    what = f"{what} {', '.join(map(str, sorted(found.versions)))}"
    if _newest(found) and SCHEMA_VERSION in found.versions:
        return Finding(
            "version-several",
            what,
            f"its columns are those of schema {SCHEMA_VERSION}: the other rows are deleted",
            subject=_ENVIRONMENT,
            statements=(f"DELETE FROM {_name(found)} WHERE schema_version <> {SCHEMA_VERSION}",),  # noqa: S608
        )
    return Finding(
        "version-several",
        what,
        "two programs made its tables at once, or migrated them: restore a backup, or ask which one is true",
        subject=_ENVIRONMENT,
    )


def _of_version(found: Found, version: int) -> Iterator[Finding]:
    if version > SCHEMA_VERSION:
        yield Finding(
            "schema-newer",
            f"its MLMD schema is {version}, and {SCHEMA_VERSION} is the newest known here",
            "install a newer zen_mlmd",
        )
    elif version < OLDEST_VERSION:
        yield Finding(
            "schema-ancient",
            f"its MLMD schema is {version}, and {OLDEST_VERSION} is the oldest that is read",
            "back it up, then let ml-metadata 1.17.1 migrate it (enable_upgrade_migration)",
        )
    elif version == SCHEMA_VERSION:
        yield from _incomplete(found)
    else:
        yield _older(found, version)


def _incomplete(found: Found) -> Iterator[Finding]:
    lacking = found.lacking(SCHEMA_VERSION)
    if lacking:
        yield Finding(
            "columns-missing",
            f"it says that its MLMD schema is {SCHEMA_VERSION}, but it lacks {', '.join(lacking)}",
            "restore a backup",
        )


def _older(found: Found, version: int) -> Finding:
    lacking = found.lacking(version)
    early = [
        f"{table}.{column}"
        for table, columns in columns_of(SCHEMA_VERSION).items()
        for column in columns
        if column in found.present.get(table, {}) and column not in columns_of(version)[table]
    ]
    if not (lacking or early or found.copies):
        return Finding(
            "schema-old",
            f"its MLMD schema is {version}: it is only read",
            f"{_MIGRATE} brings it to {SCHEMA_VERSION}, in place and for ever",
        )
    signs = [f"it lacks {', '.join(lacking)}"] * bool(lacking)
    signs += [f"it has {', '.join(early)}"] * bool(early)
    signs += [f"{', '.join(found.copies)} was left behind"] * bool(found.copies)
    return Finding(
        "migration-unfinished",
        f"it says that its MLMD schema is {version}, but {'; '.join(signs)}: a migration was cut short",
        f"{_MIGRATE} goes on with it",
    )


def _newest(found: Found) -> bool:
    """Tell whether there is all that schema 10 has, be it without the table of the version itself."""
    return set(found.lacking(SCHEMA_VERSION)) <= {_ENVIRONMENT}


def _name(found: Found) -> str:
    return _ENVIRONMENT.lower() if found.dialect == "postgresql" else _ENVIRONMENT
