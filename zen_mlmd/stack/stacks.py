"""Stacks: a metadata store, an artifact store and an orchestrator, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from zen_mlmd.errors import ConfigError
from zen_mlmd.stack.named import Component, Components, shown_fields
from zen_mlmd.stack.secrets import Secrets, is_reference
from zen_mlmd.stack.settings import DEFAULT, Scope, Settings, checked_name, only, text_of
from zen_mlmd.stack.words import KINDS, Kind, a_title, did_you_mean, title

STACK_VARIABLE: Final = "ZEN_MLMD_STACK"
VARIABLES: Final[Mapping[Kind, str]] = {
    "metadata_store": "ZEN_MLMD_STORE",
    "artifact_store": "ZEN_MLMD_ARTIFACT_STORE",
    "orchestrator": "ZEN_MLMD_ORCHESTRATOR",
}
"""What names a component above the active stack."""

_FORMAT: Final = "zen_mlmd_stack"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack: one component of each kind, by name."""

    name: str
    metadata_store: str
    artifact_store: str
    orchestrator: str
    scope: Scope | Literal[""] = ""

    def component(self, kind: Kind) -> str:
        """Return the name of its component of a kind."""
        return str(getattr(self, kind))


class Stacks:
    """The stacks there are.

    Args:
        settings: Where they are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def all(self) -> list[Stack]:
        """Return all, `default` first, then by name."""
        found = {DEFAULT: Stack(DEFAULT, DEFAULT, DEFAULT, DEFAULT)}
        for scope in reversed(self._settings.files):
            for name, kept in self._settings.section(scope, "stacks").items():
                only(kept, KINDS, f"stack {name!r}", self._settings.files[scope].path)
                parts = {kind: text_of(kept, kind) or DEFAULT for kind in KINDS}
                found[name] = Stack(name, **parts, scope=scope)
        return [found[DEFAULT], *(found[name] for name in sorted(found.keys() - {DEFAULT}))]

    def get(self, name: str) -> Stack:
        """Return the one of that name.

        Raises:
            ConfigError: There is none.
        """
        known = {each.name: each for each in self.all()}
        if name not in known:
            raise ConfigError(
                f"there is no stack named {str(name)[:100]!r}", hint=did_you_mean(str(name), known)
            )
        return known[name]

    def register(self, name: str, parts: Mapping[Kind, str], *, scope: Scope = "user") -> Stack:
        """Keep a stack; each of its components is named.

        Raises:
            ConfigError: There is one of that name, or a component is not named or not there.
        """
        missing = [kind for kind in KINDS if kind not in parts]
        if missing:
            raise ConfigError(f"a stack needs {a_title(missing[0])}", hint=f"name one, {DEFAULT!r} say")
        with self._settings.file(scope).locked():
            self._refuse_known(name)
            return self._keep(name, parts, scope)

    def update(self, name: str, parts: Mapping[Kind, str]) -> Stack:
        """Give a stack other components.

        Raises:
            ConfigError: There is no such stack, or no such component.
        """
        scope = self._own(name)
        with self._settings.file(scope).locked():
            old = self.get(name)
            kept: dict[Kind, str] = {kind: old.component(kind) for kind in KINDS}
            return self._keep(name, {**kept, **parts}, scope)

    def rename(self, name: str, new: str) -> None:
        """Give a stack another name; it stays the active one if it was.

        Raises:
            ConfigError: There is none, or one of the new name.
        """
        settings = self._settings
        scope = self._own(name)
        active = [
            each
            for each in settings.scopes_with_active(name)
            if each == scope or name not in settings.section(each, "stacks")
        ]
        with settings.file(scope).changing() as content:
            self._refuse_known(new)
            section = settings.section_of(content, "stacks")
            section[new] = section.pop(self.get(name).name)
        for each in active:
            settings.write_active(each, new)

    def copy(self, name: str, new: str) -> Stack:
        """Keep the components of a stack under another name."""
        old = self.get(name)
        parts: dict[Kind, str] = {kind: old.component(kind) for kind in KINDS}
        return self.register(new, parts, scope=old.scope or "user")

    def delete(self, name: str) -> None:
        """Forget a stack; its components stay.

        Raises:
            ConfigError: There is none, or it is the active one.
        """
        scope = self._own(name)
        if self._settings.scopes_with_active(name):
            raise ConfigError(
                f"{name!r} is the active stack",
                hint="`zen-mlmd stack set` makes another the active one first",
            )
        with self._settings.file(scope).changing() as content:
            self._settings.section_of(content, "stacks").pop(name, None)

    def set_active(self, name: str, *, scope: Scope | None = None) -> None:
        """Make a stack the active one: of the project if there is one, else of the user.

        Raises:
            ConfigError: There is no such stack.
        """
        self.get(name)
        self._settings.write_active(scope or self._settings.nearest, name)

    # -- to another machine ----------------------------------------------------------------------

    def export(self, name: str) -> dict[str, Any]:
        """Return a stack with the settings of its components, to be written to a file; it holds no secret."""
        stack = self.get(name)
        parts = {kind: Components(self._settings, kind).get(stack.component(kind)) for kind in KINDS}
        for each in parts.values():
            for key, value in shown_fields(each, self._settings.custom_flavors()).items():
                if value != each.fields[key]:
                    raise ConfigError(
                        f"{title(each.kind)} {each.name!r} holds {key} in clear in the settings",
                        hint=f"`update {each.name} --{key.replace('_', '-')} ...` keeps it apart",
                    )
        return {
            _FORMAT: 1,
            "name": stack.name,
            **{
                kind: {"name": each.name, "flavor": each.flavor, **(each.fields if each.scope else {})}
                for kind, each in parts.items()
            },
        }

    def import_(self, content: Mapping[str, Any], *, name: str | None = None, scope: Scope = "user") -> Stack:
        """Keep a stack that was exported elsewhere, with its components.

        A component that is here already with the same settings is taken as it is.

        Raises:
            ConfigError: It is no such thing; or a stack, or a component with other settings, has its name.
        """
        if content.get(_FORMAT) != 1:
            raise ConfigError("this is no exported stack", hint="`zen-mlmd stack export` writes one")
        new = checked_name("stack", name or text_of(content, "name"))
        with self._settings.file(scope).locked():
            self._refuse_known(new)
            parts: dict[Kind, str] = {}
            made: list[Kind] = []
            try:
                for kind in KINDS:
                    parts[kind], is_new = self._import_component(kind, content.get(kind), scope)
                    made += [kind] if is_new else []
                return self._keep(new, parts, scope)
            except BaseException:
                for kind in made:
                    Components(self._settings, kind).delete(parts[kind])
                raise

    def missing_secrets(self, stack: Stack) -> list[str]:
        """Return the names of the secrets that a stack's components refer to and that are not here."""
        components = [Components(self._settings, kind).get(stack.component(kind)) for kind in KINDS]
        return sorted({each for one in components for each in _secrets(one, self._settings.secrets)})

    def _import_component(self, kind: Kind, given: Any, scope: Scope) -> tuple[str, bool]:
        """Keep a component; return its name, and whether it was not here before."""
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"the exported stack has no {title(kind)}", hint="`zen-mlmd stack export` writes one"
            )
        name, flavor = text_of(given, "name"), text_of(given, "flavor")
        fields = {key: value for key, value in given.items() if key not in ("name", "flavor")}
        components = Components(self._settings, kind)
        same = components.find(name)
        if same is None:
            components.register(name, flavor, fields, scope=scope)
        elif same.scope and (same.flavor, dict(same.fields)) != (flavor, fields):
            raise ConfigError(
                f"there is another {title(kind)} named {name!r} here", hint=f"rename it first: {name} NEW"
            )
        return name, same is None

    # -- within ----------------------------------------------------------------------------------

    def _refuse_known(self, name: str) -> None:
        if any(each.name == checked_name("stack", name) for each in self.all()):
            raise ConfigError(
                f"there is a stack named {name!r} already", hint="choose another name, or update it"
            )

    def _own(self, name: str) -> Scope:
        scope = self.get(name).scope
        if not scope:
            raise ConfigError(f"the stack {DEFAULT!r} is built in", hint="register one of your own")
        return scope

    def _keep(self, name: str, parts: Mapping[Kind, str], scope: Scope) -> Stack:
        for kind in KINDS:
            Components(self._settings, kind).get(parts[kind])
        with self._settings.file(scope).changing() as content:
            self._settings.section_of(content, "stacks")[name] = {kind: parts[kind] for kind in KINDS}
        return Stack(name, **{kind: parts[kind] for kind in KINDS}, scope=scope)


def active_name(settings: Settings) -> tuple[str, str]:
    """Return the active stack's name, and what says so."""
    named = os.environ.get(STACK_VARIABLE)
    return (named, STACK_VARIABLE) if named else settings.active_stack()


def component_in_force(settings: Settings, kind: Kind) -> str:
    """Return the name of the component of a kind that is in force; empty if a variable has a URL or a path.

    Such a URL may hold a password.
    """
    given = os.environ.get(VARIABLES[kind])
    if given:
        return given if Components(settings, kind).find(given) else ""
    return Stacks(settings).get(active_name(settings)[0]).component(kind)


def _secrets(component: Component, secrets: Secrets) -> list[str]:
    known = secrets.names()
    values = [
        each
        for value in component.fields.values()
        for each in (value.values() if isinstance(value, Mapping) else [value])
    ]
    named = [
        each[len("${secret:") : -1] for each in values if is_reference(each) and each.startswith("${secret:")
    ]
    return [each for each in named if each not in known]
