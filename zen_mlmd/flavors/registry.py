"""The flavors there are, and which one a URL means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.flavors.kubeflow import KubeflowConfig
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.flavors.postgresql import PostgresqlConfig
from zen_mlmd.flavors.sqlite import SqliteConfig

FLAVORS: dict[str, type[StoreConfig]] = {
    config.flavor: config for config in (SqliteConfig, MysqlConfig, PostgresqlConfig, KubeflowConfig)
}

_SCHEMES = {scheme: config for config in FLAVORS.values() for scheme in config.schemes}
_PASSWORD = re.compile(r":.*@", re.DOTALL)
_EXAMPLES = (
    "sqlite:///metadata.db, mysql://user@host/metadb, postgresql://user@host/metadb, kubeflow://host:8080"
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
    config = _SCHEMES.get(parts.scheme)
    if config is None:
        raise ConfigError(f"no flavor has URLs of scheme {parts.scheme!r}", hint=f"known are: {_EXAMPLES}")
    if config is not SqliteConfig and "@" in parts.path + parts.query:
        raise _unreadable()  # the end of a password with a slash or question mark in it
    return config.from_url(parts, options)


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
