"""The components of a stack, their flavors, and the settings that each flavor has."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import FLAVORS, StoreConfig, installed_flavors, load_flavor
from zen_mlmd.stack.secrets import is_reference, refuse_misspelled
from zen_mlmd.stack.words import Kind, did_you_mean, title


class ComponentConfig(BaseModel):
    """The settings of an artifact store or an orchestrator: frozen, checked when made."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    flavor: ClassVar[str]


class LocalArtifactStore(ComponentConfig):
    """Payloads in a folder of this machine.

    Attributes:
        path: The folder; it is made when the first payload is written.
    """

    flavor: ClassVar[str] = "local"

    path: str = Field(min_length=1)

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        if "://" in path:
            raise ValueError("must be a folder; an artifact store elsewhere is of the flavor remote")
        return path

    @property
    def root(self) -> str:
        """Where payloads are kept."""
        return os.path.abspath(os.path.expanduser(self.path))  # noqa: PTH100, PTH111 - ~nobody stays


class RemoteArtifactStore(ComponentConfig):
    """Payloads at a URL that fsspec knows: s3://bucket/path, gs://bucket/path, ...

    Credentials come from fsspec's configuration or the environment, never from the URL.

    Attributes:
        uri: The URL.
    """

    flavor: ClassVar[str] = "remote"

    uri: str = Field(min_length=1)

    @field_validator("uri")
    @classmethod
    def _uri(cls, uri: str) -> str:
        if "://" not in uri:
            raise ValueError("must be a URL; a folder of this machine is of the flavor local")
        if "@" in uri.partition("://")[2].partition("/")[0]:
            raise ValueError("must hold no user or password")
        return uri

    @property
    def root(self) -> str:
        """Where payloads are kept."""
        return self.uri


class LocalOrchestrator(ComponentConfig):
    """Runs the steps of a pipeline in this process.

    Attributes:
        max_parallel: How many independent steps may run at once, in threads.
    """

    flavor: ClassVar[str] = "local"

    max_parallel: int = Field(default=1, ge=1)


AnyConfig: TypeAlias = StoreConfig | LocalArtifactStore | RemoteArtifactStore | LocalOrchestrator
ConfigClass: TypeAlias = type[StoreConfig] | type[ComponentConfig]

_FLAVORS: Final[Mapping[Kind, Mapping[str, ConfigClass]]] = {
    "metadata_store": FLAVORS,
    "artifact_store": {each.flavor: each for each in (LocalArtifactStore, RemoteArtifactStore)},
    "orchestrator": {LocalOrchestrator.flavor: LocalOrchestrator},
}


def flavors(kind: Kind, registered: Iterable[str] = ()) -> Mapping[str, ConfigClass]:
    """Return the flavors of a kind of component by name: built in, installed and registered ones.

    Args:
        kind: The kind of component.
        registered: `package.module.Class` of flavors of metadata store that the settings name. One that
            cannot be imported is left out, so that a package that is gone does not stop the others.
    """
    if kind == "metadata_store":
        installed_flavors()
        for source in registered:
            with contextlib.suppress(ConfigError):
                load_flavor(source)
    return _FLAVORS[kind]


def flavor_named(kind: Kind, name: str, registered: Iterable[str] = ()) -> ConfigClass:
    """Return the settings' class of a flavor.

    Raises:
        ConfigError: There is no such flavor.
    """
    known = flavors(kind, registered)
    if name not in known:
        raise ConfigError(
            f"there is no flavor {name!r} of {title(kind)}",
            hint=f"{did_you_mean(name, known)} Or is a package that brings it not installed?",
        )
    return known[name]


def make_config(config: ConfigClass, fields: Mapping[str, Any]) -> AnyConfig:
    """Return a component's settings, checked.

    Raises:
        ConfigError: One is missing, unknown or wrong; the message names it and no value.
    """
    unknown = sorted(str(each) for each in fields.keys() - config.model_fields.keys())
    if unknown:
        raise ConfigError(
            f"a {config.flavor} component has no setting {unknown[0]!r}",
            hint=did_you_mean(unknown[0], config.model_fields),
        )
    made, faults = _tried(config, fields)
    if made is not None:
        return made
    # Out here, lest it keep pydantic's error, which has the values, as its context.
    raise _faulty(config, faults)


def _faulty(config: ConfigClass, faults: Iterable[tuple[str, str]]) -> ConfigError:
    return ConfigError(
        f"not a {config.flavor} component: {'; '.join(text for _, text in faults)}",
        hint=f"its settings are: {', '.join(config.model_fields)}",
    )


def _tried(config: ConfigClass, fields: Mapping[str, Any]) -> tuple[AnyConfig | None, list[tuple[str, str]]]:
    """Return a component's settings; or None, and each fault with the setting that it is of."""
    try:
        return config(**fields), []  # type: ignore[return-value]
    except ValidationError as error:
        return None, [
            (
                str(fault["loc"][0]) if fault["loc"] else "",
                f"{'.'.join(str(part) for part in fault['loc']) or config.flavor}: {fault['msg']}",
            )
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]


def checked_fields(config: ConfigClass, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the flavor has them: a number as a number, where it was given as text.

    A value that lies elsewhere is taken for one that fits.

    Raises:
        ConfigError: One is missing, unknown or wrong; the message names it and no value.
    """
    if fields.keys() - config.model_fields.keys():
        make_config(config, fields)  # says which is unknown
    for key, value in fields.items():
        refuse_misspelled(key, value)
    elsewhere = {key for key, value in fields.items() if is_reference(value)}
    tried = {key: _stand_in(config, key) if key in elsewhere else value for key, value in fields.items()}
    made, faults = _tried(config, tried)
    faults = [each for each in faults if each[0] not in elsewhere]
    if faults:
        raise _faulty(config, faults)
    if made is None:  # only a stand-in does not fit (a URL, a quantity): what is there is checked when used
        made, _ = _tried(config, {key: value for key, value in fields.items() if key not in elsewhere})
    dumped = fields if made is None else made.model_dump(mode="json", warnings=False)
    for key in fields.keys() - elsewhere:
        if isinstance(getattr(made, key, None), BaseModel):  # a secret in it would not be put aside
            raise ConfigError(
                f"{config.flavor}: {key} holds settings of its own, which cannot be kept",
                hint="make each of them a setting of the flavor",
            )
    return {
        key: value if key in elsewhere or is_secret(config, key) else dumped[key]
        for key, value in fields.items()
    }


def _stand_in(config: ConfigClass, name: str) -> Any:
    field = config.model_fields.get(name)
    if field is None or field.annotation is str or is_secret(config, name):
        return "x"
    return field.get_default(call_default_factory=True) if not field.is_required() else 1


def is_secret(config: ConfigClass, field: str) -> bool:
    """Tell whether a setting is never shown, and never kept in the settings in clear."""
    return SecretStr.__name__ in str(config.model_fields[field].annotation)


def described(config: ConfigClass) -> dict[str, str]:
    """Return what the settings of a flavor are for, as its class and those that it is made from say.

    They say so as Google's style has it: `name: text`, or `name, other: text`, below `Attributes:`.
    """
    found: dict[str, str] = {}
    for part in reversed(config.__mro__):
        _, _, block = (inspect.cleandoc(part.__doc__ or "")).partition("Attributes:\n")
        names: list[str] = []
        for line in block.splitlines():
            match = _ATTRIBUTE.match(line)
            if match:
                names = [each.strip() for each in match["names"].split(",")]
                found.update(dict.fromkeys(names, match["text"]))
            elif line.strip() and line.startswith(" "):
                found.update({name: f"{found[name]} {line.strip()}" for name in names})
            else:
                names = []
    return {name: text for name, text in found.items() if name in config.model_fields}


_ATTRIBUTE: Final = re.compile(r"    (?P<names>\w+(?:, \w+)*): (?P<text>.*)")
