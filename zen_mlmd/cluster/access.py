"""The way to a cluster's API server: as a pod of it, or by a kubeconfig."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from zen_mlmd.cluster.kubeconfig import current_context, kubeconfig_in_force
from zen_mlmd.errors import ConfigError, MissingExtraError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's own token, its namespace and the API server's authority."""

_NAMESPACE: Final = "default"
_OK: Final = 200


class Cluster:
    """A cluster's API server, as whoever the credentials say; nothing is asked of it before a call.

    Every call ends within `timeout_s` unless it is given another `_request_timeout`; none is repeated.

    Attributes:
        inside: This process is a pod of that cluster.
        namespace: The pod's own, or that of the kubeconfig's context.
        context: The kubeconfig's context; empty inside.
        kubeconfig: Its path, or several as `KUBECONFIG` lists them; empty inside.
        timeout_s: For each call.
        configuration: The client's own. It holds credentials: never to be printed.
    """

    def __init__(
        self,
        configuration: Any,
        *,
        namespace: str,
        timeout_s: float,
        context: str = "",
        kubeconfig: str = "",
    ) -> None:
        self.configuration = configuration
        self.namespace = namespace
        self.context = context
        self.kubeconfig = kubeconfig
        self.inside = not kubeconfig
        self.timeout_s = timeout_s
        configuration.retries = 0

    def __repr__(self) -> str:
        return f"<Cluster {self.location}>"

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.configuration.host).rstrip("/")

    @property
    def location(self) -> str:
        """Which cluster it is, for messages."""
        return f"cluster {self.server}" + (f" (context {self.context})" if self.context else "")

    @functools.cached_property
    def client(self) -> Any:
        """The client's `ApiClient`, for APIs that are not named here."""
        from kubernetes.client import ApiClient

        client = ApiClient(self.configuration)
        client.rest_client = self._rest
        return client

    @functools.cached_property
    def _rest(self) -> Any:
        return _in_time(self.configuration, self.timeout_s)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who asks; empty where a certificate does. It holds a token."""
        value = self.configuration.auth_settings().get("BearerToken", {}).get("value")
        return {"authorization": str(value)} if value else {}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return what a path of the API holds, as it is; to be used in `asking`, as the APIs are.

        The classes of `CoreV1Api` alone take two seconds to import.
        """
        from kubernetes.client.exceptions import ApiException

        url = self.server + path + ("?" + urlencode(query) if query else "")
        answer = self._rest.request("GET", url, headers={"accept": "application/json", **self.authorization})
        content = answer.read() if callable(getattr(answer, "read", None)) else answer.data
        if not _OK <= answer.status < _OK + 100:
            error = ApiException(status=answer.status, reason=answer.reason)
            error.body = content
            raise error
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ConnectionError("the answer is no object")
        return found

    @functools.cached_property
    def core(self) -> Any:
        """The client's `CoreV1Api`."""
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self.client)

    @functools.cached_property
    def apps(self) -> Any:
        """The client's `AppsV1Api`."""
        from kubernetes.client import AppsV1Api

        return AppsV1Api(self.client)

    @functools.cached_property
    def storage(self) -> Any:
        """The client's `StorageV1Api`."""
        from kubernetes.client import StorageV1Api

        return StorageV1Api(self.client)


def connect(*, context: str = "", kubeconfig: str = "", timeout_s: float = 10.0) -> Cluster:
    """Return the cluster that is meant; it is not asked anything yet.

    A pod means its own cluster, unless a context or a kubeconfig is named. Credentials that a plugin of the
    kubeconfig gives are got now, and again when they run out.

    Args:
        context: The kubeconfig's; by default its current one.
        kubeconfig: Its path; by default that of `KUBECONFIG`, or `~/.kube/config`.
        timeout_s: For each call.

    Raises:
        MissingExtraError: The package kubernetes is not installed.
        ConfigError: There is no such kubeconfig or context, or it cannot be read.
    """
    try:
        import kubernetes.client
    except ImportError:
        raise MissingExtraError(
            "the package kubernetes is not installed", hint="pip install 'zen-mlmd[kubernetes]'"
        ) from None
    configuration = kubernetes.client.Configuration()
    if not context and not kubeconfig and is_inside():
        return _inside(configuration, timeout_s)
    kubeconfig = kubeconfig_in_force(kubeconfig)
    context = context or current_context(kubeconfig)
    namespace = _load(configuration, kubeconfig, context)
    return Cluster(
        configuration, namespace=namespace, timeout_s=timeout_s, context=context, kubeconfig=kubeconfig
    )


def is_inside() -> bool:
    """Tell whether this process is a pod that was given access to its cluster's API."""
    return (SERVICE_ACCOUNT / "token").is_file()


def own_namespace() -> str:
    """Return the namespace that this pod is in; `default` if it was not told."""
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or _NAMESPACE
    except (OSError, UnicodeDecodeError):
        return _NAMESPACE


def _inside(configuration: Any, timeout_s: float) -> Cluster:
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    token, authority = str(SERVICE_ACCOUNT / "token"), str(SERVICE_ACCOUNT / "ca.crt")
    try:
        InClusterConfigLoader(token_filename=token, cert_filename=authority).load_and_set(configuration)
    except (ConfigException, OSError) as error:
        fault = str(error)
    else:
        return Cluster(configuration, namespace=own_namespace(), timeout_s=timeout_s)
    raise ConfigError(
        f"this pod's access to its cluster is incomplete: {fault}", hint="or name a `kubeconfig`"
    )


def _load(configuration: Any, kubeconfig: str, context: str) -> str:
    """Read a context of a kubeconfig; return its namespace."""
    from kubernetes import config

    try:
        contexts, _ = config.list_kube_config_contexts(kubeconfig)
        found = next((each for each in contexts if each["name"] == context), None)
        fault = f"there is no context {context!r}; there are: {', '.join(each['name'] for each in contexts)}"
        if found is not None:
            config.load_kube_config(
                kubeconfig, context, client_configuration=configuration, persist_config=False
            )
            return str(found["context"].get("namespace") or _NAMESPACE)
    except config.ConfigException as error:
        fault = " ".join(str(error).split())[:300]  # it names what is missing, never what is there
    except Exception as error:  # noqa: BLE001 - whatever is odd in a file that others wrote
        fault = f"it cannot be read ({type(error).__name__})"
    # Out here, lest it keep an error that may quote the file as its context.
    raise ConfigError(
        f"{kubeconfig}: {fault}", hint="name a context that is there, and see that its user and cluster are"
    )


def _in_time(configuration: Any, timeout_s: float) -> Any:
    """Return what sends requests, none without a limit in time."""
    from kubernetes.client.rest import RESTClientObject

    class InTime(RESTClientObject):  # type: ignore[misc]
        def request(self, *args: Any, **kwargs: Any) -> Any:
            limit = kwargs.get("_request_timeout") or timeout_s
            if isinstance(limit, float):  # which older clients pass over
                limit = (limit, limit)
            kwargs["_request_timeout"] = limit
            return super().request(*args, **kwargs)

    return InTime(configuration)
