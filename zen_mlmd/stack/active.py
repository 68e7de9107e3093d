"""The stack in force, and where each of its values came from.

What counts, from the strongest: arguments; the environment; the project's settings; the user's; what a flavor
has by default.

ZEN_MLMD_STACK                      the active stack's name
ZEN_MLMD_PROFILE                    the profile's
ZEN_MLMD_STORE                      the metadata store: a name, a URL, or an SQLite file's path
ZEN_MLMD_ARTIFACT_STORE             the artifact store: a name, a folder, or a URL
ZEN_MLMD_ORCHESTRATOR               the orchestrator's name
ZEN_MLMD_<COMPONENT>_<FIELD>        a setting: ZEN_MLMD_STORE_PASSWORD, ZEN_MLMD_ARTIFACT_STORE_PATH, ...
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.stack.components import (
    AnyConfig,
    ConfigClass,
    LocalArtifactStore,
    LocalOrchestrator,
    RemoteArtifactStore,
    flavor_named,
    is_secret,
    make_config,
)
from zen_mlmd.stack.named import Component, Components
from zen_mlmd.stack.secrets import MASK, is_reference
from zen_mlmd.stack.settings import DEFAULT, Settings, user_data
from zen_mlmd.stack.stacks import VARIABLES, Stacks, active_name, component_in_force
from zen_mlmd.stack.words import KINDS, Kind, title


@dataclass(frozen=True, slots=True)
class Value:
    """One setting in force.

    Attributes:
        shown: What may be shown of it: a secret is masked.
        source: Where it came from.
    """

    field: str
    shown: str
    source: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A component in force.

    Attributes:
        config: Its settings, with what they refer to.
        values: The settings that are not a flavor's default, and where each came from.
    """

    kind: Kind
    name: str
    flavor: str
    source: str
    config: AnyConfig
    values: tuple[Value, ...]


class ActiveStack:
    """The stack in force; each component is resolved when it is asked for.

    Args:
        settings: By default those of the working directory.
        name: By default the active stack's.

    Raises:
        ConfigError: There is no such stack.
    """

    def __init__(self, settings: Settings | None = None, name: str | None = None) -> None:
        self.settings = settings or Settings()
        self._is_given = bool(name)
        self.name, self.source = (name, "argument") if name else active_name(self.settings)
        self.stack = Stacks(self.settings).get(self.name)

    def resolve(self, kind: Kind) -> Resolved:
        """Return one component in force.

        Raises:
            ConfigError: It, or a setting of it, is missing or wrong; or what it refers to is not there.
        """
        component, source = self._in_force(kind)
        return self._resolved(component, source, environment=not self._is_given)

    def resolve_named(self, component: Component, source: str = "argument") -> Resolved:
        """Return a component with what its settings refer to.

        Raises:
            ConfigError: A setting of it is missing or wrong, or what it refers to is not there.
        """
        return self._resolved(component, source, environment=False)

    def _resolved(self, component: Component, source: str, *, environment: bool) -> Resolved:
        """Return a component with what its settings refer to.

        The environment's settings are those of the component in force without an argument:
        `ZEN_MLMD_STORE_HOST` does not make another store, that an argument names, the same one.
        """
        counts = environment or component.name == component_in_force(self.settings, component.kind)
        if component.name == DEFAULT and component.kind == "metadata_store":
            user_data()
        config = flavor_named(component.kind, component.flavor, self.settings.custom_flavors())
        kept = f"{component.scope} settings" if component.scope else "built in" if component.name else source
        values = {key: (value, kept) for key, value in component.fields.items()}
        for field in config.model_fields:
            variable = f"{VARIABLES[component.kind]}_{field.upper()}"
            if counts and variable in os.environ:
                text: Any = os.environ[variable]
                if "dict" in str(config.model_fields[field].annotation):
                    text = _mapping_of(text, variable)
                values[field] = (text, variable)
        resolve = self.settings.secrets.resolve
        made = make_config(config, {key: resolve(each) for key, (each, _) in values.items()})
        shown = tuple(
            Value(key, _shown(config, key, value, made), _source(value, origin))
            for key, (value, origin) in values.items()
        )
        return Resolved(component.kind, component.name, config.flavor, source, made, shown)

    def _in_force(self, kind: Kind) -> tuple[Component, str]:
        """Return a component, and what says that it is the one."""
        variable = VARIABLES[kind]
        given = os.environ.get(variable)
        components = Components(self.settings, kind)
        if self._is_given or not given:
            return components.get(self.stack.component(kind)), f"stack {self.name!r}"
        component = components.find(given) if is_name(given) else None
        return component or _of_text(kind, given), variable

    def recorded(self, others: Mapping[Kind, str]) -> dict[str, Any]:
        """Return what a run notes of its stack: names and flavors. Any setting may hold a secret.

        Args:
            others: The flavor of each component that an argument put in the place of the stack's.
        """
        found: dict[str, Any] = {"name": self.name}
        for kind in KINDS:
            component = Component(kind, "", others[kind], {}) if kind in others else self._in_force(kind)[0]
            found[kind] = {"name": component.name, "flavor": component.flavor}
        return found

    def describe(self) -> list[Resolved]:
        """Return all components in force."""
        return [self.resolve(kind) for kind in KINDS]


def active_config() -> StoreConfig:
    """Return the config of the metadata store in force.

    Raises:
        ConfigError: It means no store, or a setting is wrong; the message quotes neither.
    """
    config = ActiveStack().resolve("metadata_store").config
    assert isinstance(config, StoreConfig)
    return config


def active_artifacts() -> str:
    """Return the root of the artifact store in force.

    Raises:
        ConfigError: A setting is wrong, or the folder of the default one cannot be made.
    """
    resolved = ActiveStack().resolve("artifact_store")
    if resolved.name == DEFAULT:
        user_data()
    assert isinstance(resolved.config, LocalArtifactStore | RemoteArtifactStore)
    return resolved.config.root


def active_max_parallel() -> int:
    """Return how many steps the orchestrator in force runs at once.

    Raises:
        ConfigError: A setting is wrong.
    """
    config = ActiveStack().resolve("orchestrator").config
    assert isinstance(config, LocalOrchestrator)
    return config.max_parallel


def config_named(text: str) -> StoreConfig:
    """Return the config of a metadata store by its name, its URL, or its SQLite file's path.

    Raises:
        ConfigError: It means no store.
    """
    if is_name(text):
        stack = ActiveStack()
        component = Components(stack.settings, "metadata_store").find(text)
        if component is not None:
            config = stack.resolve_named(component).config
            assert isinstance(config, StoreConfig)
            return config
    return config_from_url(text)


def is_name(text: object) -> bool:
    """Tell whether a text may be a component's name, and is no URL or path."""
    return isinstance(text, str) and "://" not in text and "/" not in text


def _of_text(kind: Kind, text: str) -> Component:
    """Return what a variable means that names no component: a URL or a path."""
    if kind == "metadata_store":
        config = config_from_url(text)
        return Component(
            kind, "", config.flavor, {key: getattr(config, key) for key in config.model_fields_set}
        )
    if kind == "artifact_store":
        remote = "://" in text
        return Component(kind, "", "remote" if remote else "local", {"uri" if remote else "path": text})
    raise ConfigError(
        f"there is no {title(kind)} of the name in {VARIABLES[kind]}", hint="register it, or unset it"
    )


def _mapping_of(text: str, variable: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    raise ConfigError(f"{variable} holds no JSON object", hint='{"x-user": "me"}, say')


def _shown(config: ConfigClass, field: str, value: Any, made: AnyConfig) -> str:
    if is_reference(value):
        return str(value)
    if is_secret(config, field):
        return MASK
    return str(getattr(made, field))


def _source(value: Any, origin: str) -> str:
    return f"{origin}, by reference" if is_reference(value) else origin
