r"""Text that was not written as ml-metadata writes it.

To MySQL ml-metadata says that its UTF-8 is latin1, and asks for latin1 back. What another client wrote as
what it is (by hand, say) comes back as bytes that are no UTF-8, with question marks for letters that latin1
has not: ml-metadata fails on it, and so does every list that has it. Once such a text was met, this process
asks for all text as UTF-8 instead, undoes what ml-metadata did where it did it, and takes the rest as it is.

SQLite keeps whatever bytes it was given for a text. Where they are no UTF-8, Python's sqlite3 gives no row at
all; a connection that met such a text shows those bytes as `\xff`, as is done with ml-metadata's answers.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from typing_extensions import Buffer

_CODEC: Final = "zen_mlmd_mysql_text"
_ASK: Final = "SET character_set_results = utf8mb4"

# MySQL's latin1 is windows-1252, with C1 controls in its five gaps.
_BYTES: Final = {ord(bytes([each]).decode("cp1252", "replace")): each for each in range(256)} | {
    each: each for each in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_BYTES.pop(0xFFFD)

_met: list[str] = []
"""Not empty once a foreign text was met."""


def watch(engine: Engine) -> None:
    """Let a foreign text that is met be taken for a lost connection: the next one asks otherwise."""
    event.listen(engine, "handle_error", _on_error, retval=True)
    event.listen(engine, "connect", _on_connect)  # behind SQLAlchemy's own, which says SET NAMES


def _on_connect(connection: Any, _: object) -> None:
    if _met:
        with connection.cursor() as cursor:
            cursor.execute(_ASK)
        connection.encoding = _CODEC


def _on_error(context: ExceptionContext) -> BaseException | None:
    error = met(context.original_exception)
    if error is not None:
        context.is_disconnect = True  # the rest of the answer is still on the line
    return error


def met(error: BaseException) -> sa.exc.DBAPIError | None:
    """Return what to raise for a text that is no UTF-8: a lost connection, for the next one asks otherwise.

    None for another error, and where texts are already asked for otherwise.
    """
    if not isinstance(error, UnicodeDecodeError) or _met:
        return None
    _met.append(error.reason)
    return sa.exc.OperationalError(None, None, Exception("a text is no UTF-8"), connection_invalidated=True)


def decode(data: Buffer, errors: str = "strict") -> tuple[str, int]:
    """Return the text that UTF-8 of the server's means."""
    text, length = codecs.utf_8_decode(data, errors, True)
    if text.isascii():
        return text, length
    try:
        return codecs.charmap_encode(text, "strict", _BYTES)[0].decode("utf-8"), length
    except UnicodeError:
        return text, length


class MetError(Exception):
    """A connection to SQLite met a text that is no UTF-8, and takes such from now on: ask again."""


@contextmanager
def noticed(connection: Connection) -> Iterator[None]:
    """Let a connection that meets such a text in SQLite take it the next time.

    Not from the start: to decode each text by a function of Python's costs a reader a third more.

    Raises:
        MetError: It met one.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if connection.dialect.name != "sqlite" or not str(error.orig).startswith(_NO_UTF8):
            raise
        driver: Any = connection.connection.driver_connection
        driver.text_factory = _shown
    else:
        return
    raise MetError


# Of CPython's sqlite3 (Modules/_sqlite/cursor.c): an OperationalError without any other mark.
_NO_UTF8: Final = "Could not decode to UTF-8"


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


codecs.register(
    lambda name: codecs.CodecInfo(codecs.utf_8_encode, decode, name=_CODEC) if name == _CODEC else None
)
