"""Which store and which folder are the active ones: the environment, or this user's own.

ZEN_MLMD_STORE          a store's URL; by default an SQLite file in the user's data folder
ZEN_MLMD_STORE_<FIELD>  a setting of that store, which counts before the URL's: PASSWORD, TOKEN, CA, ...
ZEN_MLMD_ARTIFACTS      where payloads are kept; by default a folder beside that file
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import platformdirs

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import StoreConfig, config_from_url

STORE_VARIABLE = "ZEN_MLMD_STORE"
ARTIFACTS_VARIABLE = "ZEN_MLMD_ARTIFACTS"


def active_store() -> str:
    """Return the URL of the active store; the folder of the default one is made.

    Raises:
        ConfigError: It cannot be made.
    """
    url = os.environ.get(STORE_VARIABLE)
    if url:
        return url
    return f"sqlite:////{quote(str(_home() / 'metadata.db').lstrip('/'))}"


def active_config() -> StoreConfig:
    """Return the config of the active store.

    Raises:
        ConfigError: Its URL means no store, or a setting is wrong; the message quotes neither.
    """
    config = config_from_url(active_store())
    names = {f"{STORE_VARIABLE}_{name.upper()}": name for name in type(config).model_fields}
    given = {name: os.environ[variable] for variable, name in names.items() if variable in os.environ}
    return type(config).checked(**{**dict(config), **given}) if given else config


def active_artifacts() -> str:
    """Return the root of the active artifact store.

    Raises:
        ConfigError: The folder of the default one cannot be made.
    """
    return os.environ.get(ARTIFACTS_VARIABLE) or str(_home() / "artifacts")


def _home() -> Path:
    home = Path(platformdirs.user_data_dir("zen_mlmd"))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{home}: your data folder cannot be made: {error.strerror}",
            hint=f"name other places in {STORE_VARIABLE} and {ARTIFACTS_VARIABLE}",
        ) from error
    return home
