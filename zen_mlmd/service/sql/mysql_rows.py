"""The rows that a MySQL server sends, taken apart in half of PyMySQL's time.

PyMySQL makes an object of each row's packet and calls three methods of it for each value, and that takes
longer than all else that there is to do to read nodes. What comes before and behind the rows stays its own.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from pymysql.connections import MySQLResult
from pymysql.constants import CR, SERVER_STATUS
from pymysql.err import OperationalError
from pymysql.protocol import MysqlPacket

_BUFFER: Final = 2**16
"""Bytes that are read ahead."""
_WHOLE: Final = 0xFFFFFF
"""Bytes of a packet that another one goes on with."""
_HEAD: Final = 4
_OK: Final = 0x00
_OK_BYTES: Final = 7
_ERROR: Final = 0xFF
_END: Final = 0xFE
_END_BYTES: Final = 9
"""A packet that begins as an end does and is as long as this is a row with a very long value."""
_NULL: Final = 0xFB
_WIDTHS: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}
"""Bytes of a length above 250, by the byte before it.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_dt_integers.html
"""


def quicken(connection: Any) -> None:
    """Let a connection of PyMySQL's read rows so."""
    connection._read_query_result = functools.partial(_read_query_result, connection)  # noqa: SLF001
    connection._rfile = connection._sock.makefile("rb", _BUFFER)  # noqa: SLF001 - nothing is on the way


def _read_query_result(connection: Any, unbuffered: bool = False) -> Any:
    connection._result = None  # noqa: SLF001
    result: Any = _Result(connection)
    if unbuffered:
        result.init_unbuffered_query()
    else:
        result.read()
    connection._result = result  # noqa: SLF001
    if result.server_status is not None:
        connection.server_status = result.server_status
    return result.affected_rows


class _Result(MySQLResult):
    """What a query answers."""

    converters: Any
    connection: Any

    def read(self) -> None:
        connection = self.connection
        try:
            data = _read_packet(connection)
            if data[0] == _OK and len(data) >= _OK_BYTES:
                self._take_ok(data)
                return
            packet: Any = MysqlPacket(data, connection.encoding)
            packet.check_error()
            if packet.is_load_local_packet():
                self._read_load_local_packet(packet)  # type: ignore[attr-defined]
            else:
                self._read_result_packet(packet)  # type: ignore[attr-defined]
        finally:
            self.connection = None

    def _take_ok(self, data: bytes) -> None:
        self.affected_rows, at = _number(data, 1)
        self.insert_id, at = _number(data, at)
        self.server_status = data[at] | data[at + 1] << 8
        self.warning_count = data[at + 2] | data[at + 3] << 8
        self.has_next = bool(self.server_status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)

    def _read_rowdata_packet(self) -> None:
        connection = self.connection
        rows: list[tuple[Any, ...]] = []
        while True:
            data = _read_packet(connection)
            first = data[0] if data else 0
            if first == _ERROR or (first == _END and len(data) < _END_BYTES):
                packet = MysqlPacket(data, connection.encoding)
                packet.check_error()
                self._check_packet_is_eof(packet)  # type: ignore[attr-defined]
                break
            rows.append(_row(data, 0, self.converters))
            _take_buffered(connection, self.converters, rows)
        self.connection = None
        self.affected_rows = len(rows)
        self.rows = tuple(rows)


def _take_buffered(connection: Any, converters: Any, rows: list[tuple[Any, ...]]) -> None:
    """Take the rows that the stream has read ahead; what else there is, is left to be read."""
    try:
        data = connection._rfile.peek()  # noqa: SLF001
    except OSError:
        return  # who reads on finds it, too
    at, number, end = 0, connection._next_seq_id, len(data)  # noqa: SLF001
    while at + _HEAD < end:
        size = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        stop = at + _HEAD + size
        first = data[at + _HEAD]
        is_row = first != _ERROR and not (first == _END and size < _END_BYTES)
        if not (is_row and 0 < size < _WHOLE and stop <= end and data[at + 3] == number):
            break
        rows.append(_row(data, at + _HEAD, converters))
        number = (number + 1) & 0xFF
        at = stop
    if at:
        connection._rfile.read(at)  # noqa: SLF001
        connection._next_seq_id = number  # noqa: SLF001


def _read_packet(connection: Any) -> bytes:
    read = connection._read_bytes  # noqa: SLF001 - it raises what PyMySQL raises
    parts: list[bytes] = []
    while True:
        header = read(_HEAD)
        size = header[0] | header[1] << 8 | header[2] << 16
        if header[3] != connection._next_seq_id:  # noqa: SLF001
            connection._force_close()  # noqa: SLF001
            raise OperationalError(CR.CR_SERVER_LOST, "Lost connection to MySQL server during query")
        connection._next_seq_id = (header[3] + 1) & 0xFF  # noqa: SLF001
        data: bytes = read(size)
        if size < _WHOLE and not parts:
            return data
        parts.append(data)
        if size < _WHOLE:
            return b"".join(parts)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of any width, and where it ends."""
    first = data[at]
    if first <= _NULL:
        return first, at + 1
    end = at + 1 + _WIDTHS[first]
    return int.from_bytes(data[at + 1 : end], "little"), end


def _row(data: bytes, at: int, converters: Any) -> tuple[Any, ...]:
    row: list[Any] = []
    for encoding, convert in converters:
        length = data[at]
        at += 1
        if length == _NULL:
            row.append(None)
            continue
        if length > _NULL:
            width = _WIDTHS[length]
            length = int.from_bytes(data[at : at + width], "little")
            at += width
        value: Any = data[at : at + length]
        at += length
        if convert is int:  # of bytes, too
            value = int(value)
        else:
            if encoding is not None:
                value = value.decode(encoding)
            if convert is not None:
                value = convert(value)
        row.append(value)
    return tuple(row)
