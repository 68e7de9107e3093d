"""Rows that are gathered while a request is looked at, and written together."""

from __future__ import annotations

import abc
import types

from typing_extensions import Self

from zen_mlmd.service.base import Refusal
from zen_mlmd.service.sql.session import Session


class Batch(abc.ABC):
    """A context manager: what was put into it is written at its end.

    So it is before a refusal goes up: ml-metadata writes each row at once, and if one of those put before
    cannot be written, that is what it tells.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._has_failed = False

    def flush(self) -> None:
        """Write what was put.

        Raises:
            Refusal: A row of that key is there already.
        """
        try:
            self.write()
        except BaseException:
            self._has_failed = True
            raise

    def leave(self) -> None:
        """Write what was put, at the end of the `with` block."""
        self.flush()

    @abc.abstractmethod
    def write(self) -> None:
        """Write what was put; the transaction cannot go on if that fails."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if error is None:
            self.leave()
        elif isinstance(error, Refusal) and not self._has_failed:
            self.flush()
            self._session.send()
