"""Secrets: what a setting refers to, and the file that holds those that were given in clear.

A value `${env:NAME}`, `${file:/run/secrets/x}`, `${keyring:service/name}` or `${secret:name}` stands for what
lies there when the component is used. A secret that is given in clear goes into a file of its own (mode
0600), and the settings hold `${secret:...}`: they can be shown, shared and recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from zen_mlmd.errors import ConfigError, MissingExtraError
from zen_mlmd.stack.files import SettingsFile
from zen_mlmd.stack.words import did_you_mean

_REFERENCE: Final = re.compile(r"\$\{(?P<kind>env|file|keyring|secret):(?P<name>[^{}]+)\}")
_ALMOST: Final = re.compile(r"\$\{[A-Za-z]*:[^{}]*\}")
_HEADER: Final = "# Secrets of zen_mlmd. Keep this file to yourself; `zen-mlmd secret` changes it.\n"
MASK: Final = "***"


class Secrets:
    """The secrets of one user, by name.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = SettingsFile(path, header=_HEADER, mode=0o600)

    @property
    def path(self) -> Path:
        """Where they are."""
        return self._file.path

    def names(self) -> list[str]:
        """Return the names there are, sorted."""
        return sorted(self._file.read())

    def set(self, name: str, value: str) -> None:
        """Keep a secret, in place of one of that name.

        Raises:
            ConfigError: The name or value is no text that can be kept.
        """
        if not name or any(char in name for char in "{}\n\0"):
            raise ConfigError(
                "a secret's name holds a brace or a line's end, or is empty", hint="name it plainly"
            )
        with self._file.changing() as kept:
            kept[name] = value

    def delete(self, name: str) -> None:
        """Forget a secret.

        Raises:
            ConfigError: There is none of that name.
        """
        with self._file.changing() as kept:
            if name not in kept:
                raise _no_secret(name, kept)
            del kept[name]

    def forget(self, names: Iterable[str]) -> None:
        """Forget secrets, be they there or not."""
        gone = set(names)
        if gone & self._file.read().keys():
            with self._file.changing() as kept:
                for name in gone & kept.keys():
                    del kept[name]

    def resolve(self, value: Any) -> Any:
        """Return what a setting stands for; a mapping's values one by one.

        Raises:
            ConfigError: Nothing lies where it refers to; the message names the reference, which is no secret.
            MissingExtraError: keyring is not installed.
        """
        if isinstance(value, Mapping):
            return {key: self.resolve(each) for key, each in value.items()}
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        name = found["name"]
        return self.get(name) if found["kind"] == "secret" else _READERS[found["kind"]](name)

    def get(self, name: str) -> str:
        """Return a secret in clear.

        Raises:
            ConfigError: There is none of that name.
        """
        kept = self._file.read()
        if name not in kept:
            raise _no_secret(name, kept)
        if not isinstance(kept[name], str):  # 0123, yes, null: YAML reads them as something else
            raise ConfigError(
                f"{self.path}: the secret {name!r} is no text",
                hint="write it in quotes; the file was left as it is",
            )
        return str(kept[name])


def is_reference(value: object) -> bool:
    """Tell whether a setting refers to a value elsewhere."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def secret_named(value: object) -> str:
    """Return the name of the secret of this file that a setting refers to; empty if it refers to none."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return found["name"] if found is not None and found["kind"] == "secret" else ""


def refuse_misspelled(field: str, value: object) -> None:
    """Refuse what looks like a reference and is none, lest `${ENV:NAME}` be taken for a password.

    Raises:
        ConfigError: A value, or one of a mapping's, does.
    """
    for each in value.values() if isinstance(value, Mapping) else [value]:
        if isinstance(each, str) and _ALMOST.search(each) and not is_reference(each):
            raise ConfigError(
                f"{field}: this looks like a reference, and is none",
                hint="one is the whole value: ${env:NAME}, ${file:PATH}, ${keyring:SERVICE/USER} or"
                " ${secret:NAME}; `zen-mlmd secret set` keeps a secret that looks so",
            )


def reference(name: str) -> str:
    """Return what refers to a secret."""
    return f"${{secret:{name}}}"


def _of_environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise ConfigError(
            f"${{env:{name}}}: there is no such environment variable", hint=f"export {name}=..."
        ) from None


def _of_file(name: str) -> str:
    try:
        # A file that a person or a Kubernetes Secret wrote ends in a line's end that is none of it.
        return Path(name).expanduser().read_text("utf-8").rstrip("\r\n")
    except (OSError, RuntimeError, ValueError) as error:  # no such ~user; no UTF-8, or a NUL in its name
        reason = error.strerror if isinstance(error, OSError) else "no such user, or no UTF-8"
        raise ConfigError(
            f"${{file:{name}}}: cannot be read: {reason}", hint="see that it is there and you may read it"
        ) from None


def _of_keyring(name: str) -> str:
    try:
        import keyring
    except ImportError:
        raise MissingExtraError("keyring is not installed", hint="pip install 'zen-mlmd[keyring]'") from None
    service, _, user = name.rpartition("/")
    try:
        found = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:  # no backend on this machine, or it is locked
        raise ConfigError(
            f"${{keyring:{name}}}: the keyring cannot be read: {type(error).__name__}",
            hint="unlock it, install a backend, or use ${env:NAME} or ${file:PATH}",
        ) from None
    if found is None:
        raise ConfigError(
            f"${{keyring:{name}}}: the keyring has no such password", hint=f"keyring set {service} {user}"
        )
    return str(found)


_READERS: Final[Mapping[str, Callable[[str], str]]] = {
    "env": _of_environment,
    "file": _of_file,
    "keyring": _of_keyring,
}


def _no_secret(name: str, kept: Mapping[str, Any]) -> ConfigError:
    hint = did_you_mean(name, kept) if kept else f"`zen-mlmd secret set {name}` keeps one"
    return ConfigError(f"there is no secret {name!r}", hint=hint)
