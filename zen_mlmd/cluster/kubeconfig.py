"""Which kubeconfig and which of its contexts are meant where nothing is said, as kubectl has it.

Read by ourselves: `kubernetes` takes most of a second to import, and takes the last file's current context
where kubectl takes the first's (tools/clientcmd/loader.go).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import yaml

from zen_mlmd.errors import ConfigError

VARIABLE: Final = "KUBECONFIG"
_DEFAULT: Final = "~/.kube/config"


def kubeconfig_in_force(given: str = "") -> str:
    """Return the path of the kubeconfig that counts: what was given, or `KUBECONFIG`, or kubectl's default.

    It may be several, as `KUBECONFIG` lists them. Each is absolute: another process may have to find it.
    """
    text = given or os.environ.get(VARIABLE) or _DEFAULT
    paths = [Path(each).expanduser().absolute() for each in text.split(os.pathsep) if each]
    return os.pathsep.join(str(each) for each in paths)


def current_context(kubeconfig: str) -> str:
    """Return the name of the context that counts if none is named.

    Args:
        kubeconfig: As `kubeconfig_in_force` returns it.

    Raises:
        ConfigError: There is no such file, it cannot be read, or it has no current context.
    """
    found = False
    for each in kubeconfig.split(os.pathsep):
        content = _read(Path(each))
        found = found or content is not None
        name = (content or {}).get("current-context")
        if isinstance(name, str) and name:
            return name
    if not found:
        raise ConfigError(
            f"{kubeconfig}: there is no such kubeconfig, and this is no pod of a cluster",
            hint="name one as `kubeconfig`, or in KUBECONFIG",
        )
    raise ConfigError(f"{kubeconfig}: it has no current context", hint="name one as `context`")


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file holds; None if there is none."""
    fault = "it holds no mapping"
    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        if isinstance(content, dict):
            return content
    except FileNotFoundError:
        return None
    except OSError as error:
        fault = str(error.strerror)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        fault = "it is no YAML"
    # Out here, lest it keep the parser's error, which quotes the file, as its context.
    raise ConfigError(f"{path}: this kubeconfig cannot be read: {fault}", hint="mend it, or name another")
