"""The flavors there are, and which one a URL means.

An installed package offers a flavor of its own by an entry point of the group
`zen_mlmd.metadata_store_flavors` (`name = "package.module:Class"`).
"""

from __future__ import annotations

import functools
import importlib
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.flavors.kubeflow import KubeflowConfig
from zen_mlmd.flavors.kubernetes import KubernetesConfig
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.flavors.postgresql import PostgresqlConfig
from zen_mlmd.flavors.sqlite import SqliteConfig

FLAVORS: dict[str, type[StoreConfig]] = {
    config.flavor: config
    for config in (SqliteConfig, MysqlConfig, PostgresqlConfig, KubeflowConfig, KubernetesConfig)
}

ENTRY_POINTS: Final = "zen_mlmd.metadata_store_flavors"

_BUILT_IN = frozenset(FLAVORS)
_SCHEMES = {scheme: config for config in FLAVORS.values() for scheme in config.schemes}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_TAKEN: Final = ("name", "flavor", "url", "scope", "project", "help")
_PASSWORD = re.compile(r":.*@", re.DOTALL)
_EXAMPLES = (
    "sqlite:///metadata.db, mysql://user@host/metadb, postgresql://user@host/metadb, kubeflow://host:8080,"
    " kubernetes://namespace/zen-mlmd"
)


def config_from_url(url: str | Path) -> StoreConfig:
    """Return the config that a URL, or the path of an SQLite file, means.

    `sqlite:///relative.db` and `sqlite:////absolute.db` count slashes as SQLAlchemy does. Options
    follow as a query: `mysql://user@host/metadb?tls=true&ssl_ca=/etc/ca.pem`. Errors never repeat
    the URL, which may hold a password.

    Raises:
        ConfigError: It means no store.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        if not text.strip() or "\0" in text:
            raise ConfigError("an empty store URL", hint=f"give one such as {_EXAMPLES}")
        if not isinstance(url, Path) and text.partition(":")[0].lower() in _SCHEMES:
            raise ConfigError("the store's URL lacks its //", hint=f"such as {_EXAMPLES}")
        if not isinstance(url, Path) and _PASSWORD.search(text):
            raise ConfigError(
                "this looks like a URL with a password, without its scheme",
                hint=f"such as {_EXAMPLES}; a file of such a name is given as pathlib.Path(...)",
            )
        return SqliteConfig.checked(path=text)
    parts, options = _split(text)
    if parts.scheme not in _SCHEMES:
        installed_flavors()
    config = _SCHEMES.get(parts.scheme)
    if config is None:
        raise ConfigError(f"no flavor has URLs of scheme {parts.scheme!r}", hint=f"known are: {_EXAMPLES}")
    if config is not SqliteConfig and "@" in parts.path + parts.query:
        raise _unreadable()  # the end of a password with a slash or question mark in it
    return config.from_url(parts, options)


def load_flavor(source: str) -> type[StoreConfig]:
    """Return the class of a custom flavor, which is known from then on by its name and its schemes.

    Args:
        source: `package.module.Class`.

    Raises:
        ConfigError: It cannot be imported, is no flavor, or has the name or a scheme of another.
    """
    module_name, _, class_name = source.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name) if module_name else None
    except Exception as error:
        raise ConfigError(
            f"the flavor {source} cannot be imported: {type(error).__name__}",
            hint="give package.module.Class of a class that can be imported here",
        ) from error
    if not (isinstance(found, type) and issubclass(found, StoreConfig)):
        raise ConfigError(
            f"{source} is no flavor of metadata store",
            hint="give package.module.Class of a subclass of zen_mlmd.flavors.StoreConfig",
        )
    missing = sorted(found.__abstractmethods__) + [
        name for name in ("flavor", "schemes") if not getattr(found, name, None)
    ]
    if missing:
        raise ConfigError(f"{source} lacks {', '.join(missing)}", hint="a flavor defines them all")
    _check(found, source)
    _add(found, source)
    return found


def _check(config: type[StoreConfig], source: str) -> None:
    """Refuse what would make a flavor's URLs or options unusable."""
    faults = [f"scheme {each!r}" for each in config.schemes if not _SCHEME.fullmatch(str(each))]
    if isinstance(config.schemes, str):
        faults = ["schemes: write a tuple, ('name',)"]
    faults += [f"setting {each!r}, which a command has" for each in _TAKEN if each in config.model_fields]
    if faults:
        raise ConfigError(
            f"{source}: {faults[0]}",
            hint=f"schemes are lower-case letters, digits, + . -; settings are not named {', '.join(_TAKEN)}",
        )


@functools.cache
def installed_flavors() -> dict[str, str]:
    """Load the flavors that installed packages offer; return what is wrong with those that cannot be."""
    told = {point.name: _fault(point.value) for point in entry_points(group=ENTRY_POINTS)}
    return {name: fault for name, fault in told.items() if fault}


def _fault(source: str) -> str:
    try:
        load_flavor(source)
    except ConfigError as error:
        return error.message
    return ""


def _add(config: type[StoreConfig], source: str) -> None:
    same = FLAVORS.get(config.flavor)
    if config.flavor in _BUILT_IN or (same is not None and _name(same) != _name(config)):
        raise ConfigError(
            f"{source}: there is a flavor {config.flavor!r} already", hint="give it another name"
        )
    for scheme in config.schemes:
        other = _SCHEMES.get(scheme)
        if other is not None and _name(other) != _name(config):
            raise ConfigError(
                f"{source}: URLs of scheme {scheme!r} are of the flavor {other.flavor}",
                hint="give it other schemes",
            )
    FLAVORS[config.flavor] = config
    _SCHEMES.update(dict.fromkeys(config.schemes, config))


def _name(config: type[StoreConfig]) -> str:
    return f"{config.__module__}.{config.__qualname__}"


def _split(text: str) -> tuple[SplitResult, dict[str, str]]:
    if not text.isprintable():  # urlsplit would leave such characters out
        raise ConfigError("the store's URL holds control characters", hint="percent-encode them")
    read = _read(text)
    if read is None:
        raise _unreadable()  # not where the ValueError is caught, whose words hold a part of the URL
    parts, pairs = read
    if "#" in text:
        raise ConfigError("the store's URL holds a #", hint="write %23 for it")
    if len(dict(pairs)) < len(pairs):
        raise ConfigError("an option of the store's URL is given twice", hint="give it once")
    return parts, dict(pairs)


def _read(text: str) -> tuple[SplitResult, list[tuple[str, str]]] | None:
    try:
        parts = urlsplit(text)
        _ = parts.port
        return parts, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None


def _unreadable() -> ConfigError:
    return ConfigError(
        "the store's URL cannot be read: is a special character in the password not percent-encoded?",
        hint="encode it: urllib.parse.quote(password, safe='')",
    )
