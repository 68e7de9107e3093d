"""The flavors there are, and which one a URL means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.flavors.kubeflow import KubeflowConfig
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.flavors.sqlite import SqliteConfig

FLAVORS: dict[str, type[StoreConfig]] = {
    config.flavor: config for config in (SqliteConfig, MysqlConfig, KubeflowConfig)
}

_SCHEMES = {scheme: config for config in FLAVORS.values() for scheme in config.schemes}
_EXAMPLES = "sqlite:///metadata.db, mysql://user@host/metadb, kubeflow://host:8080"


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
        return SqliteConfig.checked(path=text)
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        _ = parts.port
    except ValueError:
        raise ConfigError(
            "the store's URL cannot be read: is a special character in the password not percent-encoded?",
            hint="encode it: urllib.parse.quote(password, safe='')",
        ) from None
    config = _SCHEMES.get(parts.scheme)
    if config is None:
        raise ConfigError(f"no flavor has URLs of scheme {parts.scheme!r}", hint=f"known are: {_EXAMPLES}")
    return config.from_url(parts, options)
