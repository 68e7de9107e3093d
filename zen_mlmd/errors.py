"""Everything that zen_mlmd raises.

Each class has a code that never changes its meaning, and each message comes with a hint that says
what to do next. No message holds a password, a token or the contents of an artifact.

    ZenMlmdError
     ├── UsageError (TypeError)              ZM101  a call that cannot mean anything
     ├── InvalidValueError (ValueError)      ZM102  a value that MLMD cannot keep exactly
     ├── ConfigError (ValueError)            ZM103  a store's URL or setting is wrong
     ├── FilterSyntaxError (ValueError)      ZM104  a filter expression cannot be read
     ├── NotFoundError (LookupError)         ZM110  no such pipeline, run, step, artifact
     ├── MissingExtraError (ImportError)     ZM111  an optional package is not installed
     ├── ConnectionFailedError               ZM200  the store cannot be opened or reached
     │    ├── UnreachableError               ZM201  nothing answers there in time
     │    ├── HostNotFoundError              ZM202  no such host
     │    ├── LoginPluginError               ZM203  a login plugin MLMD's client does not speak
     │    ├── LoginDeniedError               ZM204  wrong user or password
     │    ├── GrantMissingError              ZM205  logged in, but not allowed
     │    ├── DatabaseMissingError           ZM206  no such database
     │    ├── TlsError                       ZM207  TLS was wanted and cannot be had
     │    ├── NotMlmdError                   ZM208  something else than an MLMD database
     │    ├── SchemaVersionError             ZM209  an MLMD schema this ml-metadata does not open
     │    ├── ConnectionLostError            ZM210  it was there, and went away in a call
     │    ├── LockTimeoutError               ZM211  another writer keeps the SQLite file
     │    ├── ClusterUnreachableError        ZM212  an API server does not answer, or does not know us
     │    ├── ClusterObjectError             ZM213  it refuses something: no such object, forbidden, invalid
     │    ├── ForwardError                   ZM214  the way to a service in a cluster does not stand
     │    └── DeploymentError                ZM215  what is to run in a cluster does not come up, or cannot
     ├── StoreError                          ZM300  the store refused a request (`.mlmd_code`)
     │    ├── AlreadyExistsError             ZM301
     │    ├── ContentionError                ZM302  a deadlock or a busy file, after all retries
     │    └── RejectedRequestError           ZM303  would harm the store or the process: not sent
     ├── RecordingError                      ZM400
     │    ├── RunExistsError                 ZM401  a run's name is taken
     │    ├── NameClashError                 ZM402  the store takes two names for one
     │    ├── TypeConflictError              ZM403  a type is registered with other properties
     │    └── EndedError                     ZM404  the run or step has ended already
     ├── PayloadError                        ZM500
     │    ├── PayloadMissingError            ZM501  nothing lies at the artifact's URI
     │    ├── PayloadChangedError            ZM502  its content is not what was recorded
     │    ├── NoMaterializerError            ZM503  nothing can write or read this type
     │    └── UntrustedPickleError           ZM504  a pickle, and nobody allowed reading it
     └── PipelineError                       ZM600
          ├── PipelineDefinitionError        ZM601  steps that do not form a pipeline
          └── ReturnValueError               ZM602  a step returned other outputs than it names
"""

from __future__ import annotations


class ZenMlmdError(Exception):
    """The root of all errors of zen_mlmd.

    Attributes:
        message: What happened, in one line, without the code.
        hint: What to do next; may be empty.
        code: `ZM` and three digits.
    """

    code = "ZM000"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        text = f"[{self.code}] {self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.__dict__.copy()))


def _rebuild(kind: type[ZenMlmdError], message: str, hint: str, state: dict[str, object]) -> ZenMlmdError:
    error = kind(message, hint=hint)
    error.__dict__.update(state)
    return error


class UsageError(ZenMlmdError, TypeError):
    """A call that cannot mean anything."""

    code = "ZM101"


class InvalidValueError(ZenMlmdError, ValueError):
    """A value that MLMD cannot keep exactly; the message names it by its path, never by its content."""

    code = "ZM102"


class ConfigError(ZenMlmdError, ValueError):
    """A store's URL or a setting is wrong."""

    code = "ZM103"


class FilterSyntaxError(ZenMlmdError, ValueError):
    """A filter expression cannot be read."""

    code = "ZM104"


class NotFoundError(ZenMlmdError, LookupError):
    """No such pipeline, run, step or artifact."""

    code = "ZM110"


class MissingExtraError(ZenMlmdError, ImportError):
    """An optional package is not installed."""

    code = "ZM111"


class ConnectionFailedError(ZenMlmdError):
    """The store cannot be opened or reached."""

    code = "ZM200"


class UnreachableError(ConnectionFailedError):
    """Nothing answers there in time."""

    code = "ZM201"


class HostNotFoundError(ConnectionFailedError):
    """The host's name does not resolve."""

    code = "ZM202"


class LoginPluginError(ConnectionFailedError):
    """The server wants a login plugin that ml-metadata's MySQL client does not speak."""

    code = "ZM203"


class LoginDeniedError(ConnectionFailedError):
    """The user or the password is wrong."""

    code = "ZM204"


class GrantMissingError(ConnectionFailedError):
    """The login worked, but the user lacks a right that MLMD needs."""

    code = "ZM205"


class DatabaseMissingError(ConnectionFailedError):
    """The server has no such database, or there is no such file."""

    code = "ZM206"


class TlsError(ConnectionFailedError):
    """TLS was wanted and cannot be had as wanted."""

    code = "ZM207"


class NotMlmdError(ConnectionFailedError):
    """What answers there is something else than an MLMD database or server."""

    code = "ZM208"


class SchemaVersionError(ConnectionFailedError):
    """The database has an MLMD schema that the installed ml-metadata does not open as it is."""

    code = "ZM209"


class ConnectionLostError(ConnectionFailedError):
    """The store answered before, and went away in the middle of a call."""

    code = "ZM210"


class LockTimeoutError(ConnectionFailedError):
    """Another writer kept the SQLite file's lock for too long."""

    code = "ZM211"


class ClusterUnreachableError(ConnectionFailedError):
    """A Kubernetes API server does not answer, fails, or does not know who asks.

    Attributes:
        status: The HTTP status that it answered with; 0 if there was no answer.
    """

    code = "ZM212"

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ClusterObjectError(ConnectionFailedError):
    """A Kubernetes API server refuses something: there is no such object, or it is forbidden or invalid.

    Attributes:
        status: The HTTP status (403, 404, 409, 422, ...); 0 if it is not of one answer.
        reason: Kubernetes' word for it (`Forbidden`, `NotFound`, `AlreadyExists`, `Invalid`, ...).
    """

    code = "ZM213"

    def __init__(self, message: str, *, hint: str = "", status: int = 0, reason: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason


class ForwardError(ConnectionFailedError):
    """The way from this machine to a service in a cluster does not stand."""

    code = "ZM214"


class DeploymentError(ConnectionFailedError):
    """What a store runs in a cluster does not come up, or something of others stands in its way."""

    code = "ZM215"


class StoreError(ZenMlmdError):
    """The store refused a request.

    Attributes:
        mlmd_code: The status code as MLMD and gRPC number them (3 is INVALID_ARGUMENT, ...).
    """

    code = "ZM300"
    mlmd_code = 2

    def __init__(self, message: str, *, hint: str = "", mlmd_code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        if mlmd_code is not None:
            self.mlmd_code = mlmd_code


class AlreadyExistsError(StoreError):
    """A node or link of that name is there already."""

    code = "ZM301"
    mlmd_code = 6


class ContentionError(StoreError):
    """A deadlock or a busy file: rolled back, and still so after all retries."""

    code = "ZM302"
    mlmd_code = 10


class RejectedRequestError(StoreError, ValueError):
    """A request that would harm the store or end the process; it was not sent."""

    code = "ZM303"
    mlmd_code = 3


class RecordingError(ZenMlmdError):
    """A run or a step cannot be recorded as asked."""

    code = "ZM400"


class RunExistsError(RecordingError):
    """The run's name is taken; MLMD keeps run names unique in a store, over all pipelines."""

    code = "ZM401"


class NameClashError(RecordingError):
    """The database takes two different names for one (case, trailing blanks)."""

    code = "ZM402"


class TypeConflictError(RecordingError):
    """A type of that name is registered with properties of other kinds."""

    code = "ZM403"


class EndedError(RecordingError):
    """The run or the step has ended already."""

    code = "ZM404"


class PayloadError(ZenMlmdError):
    """An artifact's payload cannot be written or read."""

    code = "ZM500"


class PayloadMissingError(PayloadError):
    """Nothing lies at the artifact's URI."""

    code = "ZM501"


class PayloadChangedError(PayloadError):
    """What lies at the artifact's URI is not what was recorded."""

    code = "ZM502"


class NoMaterializerError(PayloadError):
    """Nothing can write a value of this type, or read this artifact."""

    code = "ZM503"


class UntrustedPickleError(PayloadError):
    """The artifact is a pickle, and nobody allowed reading it."""

    code = "ZM504"


class PipelineError(ZenMlmdError):
    """A pipeline cannot be run as it is written."""

    code = "ZM600"


class PipelineDefinitionError(PipelineError):
    """The steps do not form a pipeline."""

    code = "ZM601"


class ReturnValueError(PipelineError):
    """A step returned other outputs than it names."""

    code = "ZM602"
