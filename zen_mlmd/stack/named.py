"""Components that have names: registered, changed, copied, forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from zen_mlmd.errors import ConfigError
from zen_mlmd.stack.built_in import SECRETS, SETTINGS
from zen_mlmd.stack.secrets import MASK, is_reference, reference, secret_named
from zen_mlmd.stack.settings import DEFAULT, Scope, Settings, checked_name, text_of
from zen_mlmd.stack.words import Kind, a_title, did_you_mean, title

if TYPE_CHECKING:
    from zen_mlmd.stack.components import ConfigClass


@dataclass(frozen=True, slots=True)
class Component:
    """A component that has a name.

    Attributes:
        fields: Its settings as they are kept: references where values are elsewhere.
        scope: Whose file has it; empty for the built-in `default`.
    """

    kind: Kind
    name: str
    flavor: str
    fields: Mapping[str, Any]
    scope: Scope | Literal[""] = ""


class Components:
    """The components of one kind.

    Args:
        settings: Where they are kept.
        kind: Which.
    """

    def __init__(self, settings: Settings, kind: Kind) -> None:
        self._settings = settings
        self._kind: Kind = kind
        self._section = f"{kind}s"

    def all(self) -> list[Component]:
        """Return all, `default` first, then by name."""
        found = {DEFAULT: _builtin(self._kind)}
        for scope in reversed(self._settings.files):
            for name, kept in self._settings.section(scope, self._section).items():
                found[name] = self._read(name, kept, scope)
        return [found[DEFAULT], *(found[name] for name in sorted(found.keys() - {DEFAULT}))]

    def find(self, name: str) -> Component | None:
        """Return the one of that name, or None."""
        return next((each for each in self.all() if each.name == name), None)

    def get(self, name: str) -> Component:
        """Return the one of that name.

        Raises:
            ConfigError: There is none.
        """
        known = {each.name: each for each in self.all()}
        if name not in known:
            raise ConfigError(
                f"there is no {title(self._kind)} named {str(name)[:100]!r}",
                hint=did_you_mean(str(name), known),
            )
        return known[name]

    def register(
        self, name: str, flavor: str, fields: Mapping[str, Any], *, scope: Scope = "user"
    ) -> Component:
        """Keep a component under a name.

        A secret that is given in clear goes into the secrets' file.

        Raises:
            ConfigError: There is one of that name, or a setting is unknown or wrong.
        """
        self._import_flavors()
        with self._settings.file(scope).locked():
            self._refuse_known(name)
            return self._keep(name, flavor, fields, scope)

    def update(self, name: str, fields: Mapping[str, Any]) -> Component:
        """Change settings of a component; None takes one away.

        Raises:
            ConfigError: There is none, or a setting is unknown or wrong.
        """
        scope = self._own(name)
        self._import_flavors()
        with self._settings.file(scope).locked():
            old = self.get(name)
            for key, value in fields.items():
                if value is None and key not in old.fields:
                    raise ConfigError(
                        f"{title(self._kind)} {name!r} has no setting {key!r}",
                        hint=did_you_mean(key, old.fields),
                    )
            kept = {key: value for key, value in {**old.fields, **fields}.items() if value is not None}
            made = self._keep(name, old.flavor, kept, scope, old)
            self._settings.secrets.forget(self._owned(old) - self._owned(made))
            return made

    def rename(self, name: str, new: str) -> None:
        """Give a component another name, also in the stacks that have it.

        Raises:
            ConfigError: There is none, or one of the new name.
        """
        settings, scope = self._settings, self._own(name)
        self._import_flavors()
        with settings.file(scope).locked():
            self._refuse_known(new)
            old = self.get(name)
            # Its secrets go along: whoever takes the old name then has none of them.
            fields = self._in_clear(old)
            self._keep(new, old.flavor, fields, scope)
            with settings.file(scope).changing() as content:
                settings.section_of(content, self._section).pop(name)
            settings.secrets.forget(self._owned(old))
        for each in settings.files:
            if name in settings.section(each, self._section):
                continue  # its stacks mean that file's own of the name
            if any(kept.get(self._kind) == name for kept in settings.section(each, "stacks").values()):
                with settings.file(each).changing() as content:
                    for kept in settings.section_of(content, "stacks").values():
                        if kept.get(self._kind) == name:
                            kept[self._kind] = new

    def copy(self, name: str, new: str, *, to: Settings | None = None) -> Component:
        """Keep the settings of a component under another name, or in another profile, with its own secrets.

        Raises:
            ConfigError: There is none, or one of the new name.
        """
        old = self.get(name)
        fields = self._in_clear(old)
        target = Components(to or self._settings, self._kind)
        return target.register(new, old.flavor, fields, scope=old.scope or "user")

    def delete(self, name: str) -> None:
        """Forget a component and its own secrets; what it names is not touched.

        Raises:
            ConfigError: There is none, or a stack has it.
        """
        from zen_mlmd.stack.stacks import Stacks

        scope = self._own(name)
        users = [each.name for each in Stacks(self._settings).all() if each.component(self._kind) == name]
        if users:
            raise ConfigError(
                f"{title(self._kind)} {name!r} is in the stack {users[0]!r}",
                hint=f"`zen-mlmd stack delete {users[0]}`, or give it another with `stack update`",
            )
        with self._settings.file(scope).changing() as content:
            owned = self._owned(self.get(name))
            self._settings.section_of(content, self._section).pop(name, None)
        self._settings.secrets.forget(owned)

    # -- within ----------------------------------------------------------------------------------

    def _import_flavors(self) -> None:
        """Import what checks settings, which takes half a second: before others are made to wait."""
        from zen_mlmd.stack.components import flavors

        flavors(self._kind, self._settings.custom_flavors())

    def _read(self, name: str, kept: Mapping[str, Any], scope: Scope) -> Component:
        flavor = text_of(kept, "flavor")
        if not flavor:
            raise ConfigError(
                f"{self._settings.files[scope].path}: {title(self._kind)} {name!r} has no flavor",
                hint="flavor: mysql, say",
            )
        fields = {key: value for key, value in kept.items() if key != "flavor"}
        return Component(self._kind, name, flavor, fields, scope)

    def _refuse_known(self, name: str) -> None:
        if self.find(checked_name(title(self._kind), name)) is not None:
            raise ConfigError(
                f"there is {a_title(self._kind)} named {name!r} already",
                hint="choose another name, or update that one",
            )

    def _own(self, name: str) -> Scope:
        """Return whose a component is that may be changed."""
        scope = self.get(name).scope
        if not scope:
            raise ConfigError(
                f"the {title(self._kind)} {DEFAULT!r} is built in", hint="register one of your own"
            )
        return scope

    def _keep(
        self, name: str, flavor: str, fields: Mapping[str, Any], scope: Scope, old: Component | None = None
    ) -> Component:
        from zen_mlmd.stack.components import checked_fields, flavor_named

        config = flavor_named(self._kind, flavor, self._settings.custom_flavors())
        checked = checked_fields(config, fields)
        place = self._place(name, scope, old)
        kept = {key: self._put_aside(place, config, key, value) for key, value in checked.items()}
        with self._settings.file(scope).changing() as content:
            self._settings.section_of(content, self._section)[name] = {"flavor": flavor, **kept}
        return Component(self._kind, name, flavor, kept, scope)

    def _put_aside(self, place: str, config: ConfigClass, key: str, value: Any) -> Any:
        """Return what the settings hold of a value: of a secret that is given in clear, where it is."""
        from zen_mlmd.stack.components import is_secret

        if not is_secret(config, key):
            return value
        if isinstance(value, Mapping):
            return {part: self._aside(f"{place}{key}/{part}", each) for part, each in value.items()}
        return self._aside(f"{place}{key}", value)

    def _aside(self, secret: str, value: Any) -> str:
        if is_reference(value):
            return str(value)
        clear = getattr(value, "get_secret_value", lambda: value)()  # of a pydantic.SecretStr
        self._settings.secrets.set(secret, str(clear))
        return reference(secret)

    def _place(self, name: str, scope: Scope, old: Component | None) -> str:
        """Return what the names of a component's own secrets begin with.

        All projects of a user, and the user, have one file of secrets: another project's `prod` is another.
        """
        tail = f"{self._settings.profile}/{self._kind}/{name}/"
        if scope == "user":
            return tail
        for each in self._owned(old) if old else ():
            return each[: each.index(tail)] + tail
        return f"project-{token_hex(4)}/{tail}"

    def _owned(self, component: Component) -> set[str]:
        """Return the names of the secrets that were put aside for a component."""
        tail = re.escape(f"{self._settings.profile}/{self._kind}/{component.name}/")
        mine = re.compile(("" if component.scope == "user" else "project-[0-9a-f]{8}/") + tail)
        values = chain.from_iterable(
            each.values() if isinstance(each, Mapping) else [each] for each in component.fields.values()
        )
        return {name for name in map(secret_named, values) if mine.match(name)}

    def _in_clear(self, component: Component) -> dict[str, Any]:
        """Return settings to be kept again: a secret of the component's own in clear, what else as it is."""
        secrets, owned = self._settings.secrets, self._owned(component)

        def clear(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: clear(each) for key, each in value.items()}
            return secrets.get(secret_named(value)) if secret_named(value) in owned else value

        return {key: clear(value) for key, value in component.fields.items()}


def shown_fields(component: Component, registered: Iterable[str]) -> dict[str, Any]:
    """Return settings as they may be shown: a secret that a person wrote into the file in clear is masked.

    So is what is no setting of the flavor: it may be a secret whose name is misspelled.
    """
    known = SETTINGS[component.kind].get(component.flavor)
    open_ = set(known or ()) - SECRETS
    if known is None:
        from zen_mlmd.stack.components import flavors, is_secret

        config = flavors(component.kind, registered).get(component.flavor)
        if config is not None:
            open_ = {key for key in config.model_fields if not is_secret(config, key)}
    return {key: value if key in open_ else _masked(value) for key, value in component.fields.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {part: _masked(each) for part, each in value.items()}
    return value if is_reference(value) else MASK


def _builtin(kind: Kind) -> Component:
    home = Path(platformdirs.user_data_dir("zen_mlmd"))
    if kind == "metadata_store":
        return Component(kind, DEFAULT, "sqlite", {"path": str(home / "metadata.db")})
    if kind == "artifact_store":
        return Component(kind, DEFAULT, "local", {"path": str(home / "artifacts")})
    return Component(kind, DEFAULT, "local", {})
