"""What a person keeps: components and stacks, by name, in profiles.

Two files hold them: the user's own, and that of the project, `.zen_mlmd/settings.yaml` in the working
directory or above it. The project's counts before the user's. The components and the stack `default` are
there from the start: an SQLite file and a folder of the user's, and this process.

To list what is kept takes no flavor: they are imported when something is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import platformdirs

from zen_mlmd.errors import ConfigError, UsageError
from zen_mlmd.stack.files import SettingsFile
from zen_mlmd.stack.secrets import Secrets
from zen_mlmd.stack.words import KINDS, did_you_mean

PROFILE_VARIABLE: Final = "ZEN_MLMD_PROFILE"
PROJECT_FOLDER: Final = ".zen_mlmd"
DEFAULT: Final = "default"

Scope: TypeAlias = Literal["project", "user"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_HEADER: Final = "# Settings of zen_mlmd; `zen-mlmd stack describe` tells what is in force.\n"
_SECTIONS: Final = (*(f"{kind}s" for kind in KINDS), "stacks")


class Settings:
    """The settings in force for a working directory.

    Args:
        start: Where the project is looked for, upwards; by default the working directory.
        profile: By default that of `ZEN_MLMD_PROFILE`, of the project, of the user, or `default`.

    Attributes:
        files: By whose they are, the strongest first.
        secrets: The user's.
    """

    def __init__(self, start: Path | None = None, profile: str | None = None) -> None:
        user = Path(platformdirs.user_config_dir("zen_mlmd"))
        project = find_project(start or _working_directory())
        self.files: dict[Scope, SettingsFile] = {}
        if project is not None:
            self.files["project"] = SettingsFile(project / "settings.yaml", header=_HEADER)
        self.files["user"] = SettingsFile(user / "settings.yaml", header=_HEADER)
        self.secrets = Secrets(user / "secrets.yaml")
        self._start = start
        self._profile = profile

    # -- profiles --------------------------------------------------------------------------------

    @property
    def profile(self) -> str:
        """The profile in force."""
        named = self._profile or os.environ.get(PROFILE_VARIABLE)
        for scope in self.files if not named else ():
            named = named or text_of(self.content(scope), "profile")
        return named or DEFAULT

    def profiles(self) -> list[str]:
        """Return the names of the profiles there are, sorted."""
        names = {
            name
            for scope in self.files
            for name in _mapping(self.content(scope), "profiles", self.files[scope].path)
        }
        return sorted({DEFAULT, self.profile, *names})

    def set_profile(self, name: str) -> None:
        """Make a profile the one in force: of the project if there is one, else of the user."""
        with self.files[self.nearest].changing() as content:
            content["profile"] = checked_name("profile", name)

    def in_profile(self, name: str) -> Settings:
        """Return the settings of another profile."""
        return Settings(self._start, checked_name("profile", name))

    # -- custom flavors --------------------------------------------------------------------------

    def custom_flavors(self) -> list[str]:
        """Return `package.module.Class` of each flavor of metadata store that was registered."""
        return sorted({each for scope in self.files for each in self._flavors_in(scope)})

    def register_flavor(self, source: str, *, scope: Scope = "user") -> type[Any]:
        """Keep a custom flavor of metadata store.

        Args:
            source: `package.module.Class` of it.
            scope: Whose file is to have it.

        Raises:
            ConfigError: It cannot be imported, or is no flavor.
        """
        from zen_mlmd.flavors import load_flavor

        found = load_flavor(source)
        with self.file(scope).changing() as content:
            content["metadata_store_flavors"] = sorted({*self._flavors_in(scope), source})
        return found

    def _flavors_in(self, scope: Scope) -> list[str]:
        found = self.content(scope).get("metadata_store_flavors") or []
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ConfigError(
                f"{self.files[scope].path}: 'metadata_store_flavors' is no list of package.module.Class",
                hint="mend the file; it was left as it is",
            )
        return found

    # -- the active stack ------------------------------------------------------------------------

    def active_stack(self) -> tuple[str, str]:
        """Return the active stack's name as the files have it, and whose file says so."""
        for scope in self.files:
            name = text_of(self._profile_in(scope), "active_stack")
            if name:
                return name, f"{scope} settings"
        return DEFAULT, "built in"

    def scopes_with_active(self, name: str) -> list[Scope]:
        """Return whose files have a stack as the active one."""
        return [scope for scope in self.files if text_of(self._profile_in(scope), "active_stack") == name]

    def write_active(self, scope: Scope, name: str) -> None:
        """Make a stack the active one."""
        with self.file(scope).changing() as content:
            _made(_made(content, "profiles"), self.profile)["active_stack"] = name

    # -- within files ----------------------------------------------------------------------------

    @property
    def nearest(self) -> Scope:
        """Whose settings count first."""
        return next(iter(self.files))

    def file(self, scope: Scope) -> SettingsFile:
        """Return a file of settings.

        Raises:
            ConfigError: There is no project.
        """
        if scope not in self.files:
            raise ConfigError(
                f"there is no {PROJECT_FOLDER} folder here or above", hint="`zen-mlmd init` makes a project's"
            )
        return self.files[scope]

    def content(self, scope: Scope) -> dict[str, Any]:
        """Return what a file holds.

        Raises:
            ConfigError: It cannot be read, or holds what settings do not.
        """
        path = self.files[scope].path
        content = self.files[scope].read()
        only(content, ("profile", "profiles", "metadata_store_flavors"), "the file", path)
        return content

    def section(self, scope: Scope, name: str) -> dict[str, dict[str, Any]]:
        """Return the things of one sort that a file has in the profile in force, by name."""
        path = self.files[scope].path
        section = _mapping(self._profile_in(scope), name, path)
        return {each: _mapping(section, each, path) for each in section}

    def section_of(self, content: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the same of a content that is being changed, made if it was not there."""
        return _made(_made(_made(content, "profiles"), self.profile), name)

    def _profile_in(self, scope: Scope) -> dict[str, Any]:
        path = self.files[scope].path
        found = _mapping(_mapping(self.content(scope), "profiles", path), self.profile, path)
        only(found, ("active_stack", *_SECTIONS), f"profile {self.profile!r}", path)
        return found


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory is gone", hint="cd to one that is there") from None


def find_project(start: Path) -> Path | None:
    """Return the folder `.zen_mlmd` of the project that a folder lies in, or None."""
    for folder in (start, *start.parents):
        if os.path.isdir(folder / PROJECT_FOLDER):  # noqa: PTH112 - a folder that one may not enter has none
            return folder / PROJECT_FOLDER
    return None


def make_project(folder: Path) -> Path:
    """Make a folder a project's: its settings lie in `.zen_mlmd/settings.yaml`, to be shared with its code.

    Raises:
        ConfigError: It cannot be made.
    """
    made = folder / PROJECT_FOLDER
    try:
        made.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{made}: cannot be made: {error.strerror}", hint="choose another folder"
        ) from error
    with SettingsFile(made / "settings.yaml", header=_HEADER).changing():
        pass
    return made


def user_data() -> Path:
    """Return the folder where the default stack keeps its data, made if it was not there.

    Raises:
        ConfigError: It cannot be made.
    """
    home = Path(platformdirs.user_data_dir("zen_mlmd"))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{home}: your data folder cannot be made: {error.strerror}",
            hint="name other places in ZEN_MLMD_STORE and ZEN_MLMD_ARTIFACT_STORE",
        ) from error
    return home


def checked_name(what: str, name: str) -> str:
    """Return a name that something may have.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{str(name)[:100]!r} is no name for a {what}",
            hint="begin with a letter or digit; letters, digits, _ . - follow",
        )
    return name


def only(content: Mapping[str, Any], known: tuple[str, ...], what: str, path: Path) -> None:
    """Refuse what settings do not have.

    Raises:
        ConfigError: There is something else.
    """
    for name in content:
        if name not in known:
            raise ConfigError(
                f"{path}: {what} has {str(name)[:100]!r}, which means nothing",
                hint=f"{did_you_mean(str(name), known)}; the file was left as it is",
            )


def text_of(content: Mapping[str, Any], name: str) -> str:
    """Return a text of a mapping; empty if there is none."""
    found = content.get(name)
    if found is not None and not isinstance(found, str):  # 2024, yes, no: YAML reads them as something else
        raise ConfigError(f"{name!r} in the settings is no text", hint="write it in quotes")
    return found or ""


def _mapping(content: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {name!r} holds no mapping", hint="mend the file; it was left as it is")
    for key in found:
        if not isinstance(key, str):  # 2024, yes, no
            raise ConfigError(
                f"{path}: the name {key!r} in {name!r} is no text to YAML",
                hint="write it in quotes; the file was left as it is",
            )
    return found


def _made(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    if found is None:
        found = content[name] = {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"{name!r} in the settings holds no mapping", hint="mend the file; it was left as it is"
        )
    return found
