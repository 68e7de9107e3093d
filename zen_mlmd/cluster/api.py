"""What a cluster's API server answers, in errors of ours: which object, what was wanted of it, and why not.

None has a token in it, or what a Secret holds: of an answer about a Secret only names and reasons are told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from zen_mlmd.cluster.access import Cluster
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError, ConnectionFailedError

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
INVALID: Final = 422
TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500

_LONGEST: Final = 500


@contextmanager
def asking(cluster: Cluster, verb: str, kind: str, name: str = "", namespace: str = "") -> Iterator[None]:
    """Translate what one call of kubernetes' client raises.

    Args:
        cluster: Which is asked.
        verb: As RBAC has it: get, list, create, patch, delete, ...
        kind: Of the object: `Service`, `Secret`, `pods/portforward`, ...
        name: The object's; empty for a list.
        namespace: The object's; empty if it has none.

    Raises:
        ClusterUnreachableError: It does not answer, fails, or does not know us.
        ClusterObjectError: It refuses this; `status` and `reason` are its own.
    """
    try:
        yield
    except Exception as error:
        found = translate(error, cluster, f"{verb} {kind}", name, namespace)
        if found is None:
            raise
        raise found from None


def translate(
    error: Exception, cluster: Cluster, wanted: str, name: str = "", namespace: str = ""
) -> ConnectionFailedError | None:
    """Return an error of kubernetes' client as one of ours; None if it is none.

    Args:
        error: What was raised.
        cluster: Which was asked.
        wanted: The verb and the kind of the object: `get Service`.
        name: The object's; empty for a list.
        namespace: The object's; empty if it has none.
    """
    from kubernetes.client.exceptions import ApiException
    from websocket import WebSocketBadStatusException

    is_secret = "secret" in wanted.lower()
    if namespace:
        wanted += f" {namespace}/{name}" if name else f" in namespace {namespace}"
    elif name:
        wanted += f" {name}"
    text = f"{cluster.location}: {wanted}: "
    if isinstance(error, ApiException) and error.status:
        return _answered(text, int(error.status), _body(error.body), is_secret=is_secret)
    if isinstance(error, WebSocketBadStatusException):
        body = _body(getattr(error, "resp_body", None))
        return _answered(text, error.status_code, body, is_secret=is_secret)
    why = _unanswered(error)
    return why and ClusterUnreachableError(f"{text}{why[0]}", hint=why[1])


def _answered(text: str, status: int, body: Mapping[str, Any], *, is_secret: bool) -> ConnectionFailedError:
    """Return what an answer of the API server that is no success means."""
    said = _said(body, is_secret=is_secret)
    if status == UNAUTHORIZED:
        return ClusterUnreachableError(
            f"{text}the API server does not know you (401)",
            hint="log in to the cluster again: the kubeconfig's token or certificate may have run out",
            status=status,
        )
    if status == TOO_MANY or status >= _SERVER_FAULT:
        return ClusterUnreachableError(
            f"{text}the API server fails ({status}): {said}",
            hint="it may pass: try again; if not, it is the cluster's administrator who can mend it",
            status=status,
        )
    what, hint = _REFUSALS.get(status, ("refused", "read what the API server says"))
    return ClusterObjectError(
        f"{text}{what} ({status}): {said}", hint=hint, status=status, reason=str(body.get("reason") or "")
    )


_REFUSALS: Final = {
    FORBIDDEN: ("forbidden", "a Role has to allow you this verb on this kind in this namespace"),
    NOT_FOUND: ("there is no such object", "check the name and the namespace"),
    CONFLICT: ("it exists already, or was changed meanwhile", "try again"),
    INVALID: ("invalid", "mend the settings that these fields are made from"),
}


def _said(body: Mapping[str, Any], *, is_secret: bool) -> str:
    """Return the API server's own words; of Secrets the fields and reasons alone, for it may quote values."""
    if not is_secret:
        return _one_line(str(body.get("message") or body.get("reason") or "it does not say why"))
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    fields = [
        f"{each.get('field')} ({each.get('reason')})" for each in causes or () if isinstance(each, dict)
    ]
    return _one_line(", ".join([str(body.get("reason") or "it does not say why"), *fields]))


def _body(body: object) -> Mapping[str, Any]:
    """Return the `Status` that an answer holds; of a proxy's page, say, nothing."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    try:
        found = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unanswered(error: Exception) -> tuple[str, str] | None:
    """Return why there was no answer of the API server, and what to do; None if it is something else."""
    import ssl

    from kubernetes.client.exceptions import ApiException
    from urllib3 import exceptions as urllib3
    from websocket import WebSocketException, WebSocketTimeoutException

    reason = getattr(error, "reason", None)
    cause = reason if isinstance(error, urllib3.MaxRetryError) and reason is not None else error
    if isinstance(error, ApiException) and "SSL" in str(reason):
        cause = ssl.SSLError(str(reason))  # the client keeps the words alone
    tls = f"no TLS connection: {_one_line(str(cause))}"
    kinds: tuple[tuple[Any, str, str], ...] = (
        ((ssl.SSLError, urllib3.SSLError), tls, "is the kubeconfig that of this cluster?"),
        (urllib3.NameResolutionError, "its host's name does not resolve", _DNS),
        ((urllib3.NewConnectionError, ConnectionRefusedError), "nothing answers there", _IS_UP),
        ((urllib3.TimeoutError, TimeoutError, WebSocketTimeoutException), "no answer in time", _IS_UP),
        (json.JSONDecodeError, "the answer is no JSON", "is it an API server, or a page of a proxy?"),
        (
            (urllib3.HTTPError, WebSocketException, ApiException, OSError),
            f"the connection broke ({type(cause).__name__})",
            "try again; is there a proxy between that breaks it?",
        ),
    )
    return next(((what, hint) for kind, what, hint in kinds if isinstance(cause, kind)), None)


_DNS: Final = "check the kubeconfig's server, and this machine's DNS"
_IS_UP: Final = "is the cluster up, and can it be reached from here (VPN, proxy)?"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
