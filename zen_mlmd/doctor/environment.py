"""Whether ml-metadata can be loaded here: its wheels, this Python, its C library, its protobuf.

Nothing of ml-metadata's, and nothing that needs it, is imported before it was tried.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from zen_mlmd.service.finding import Finding

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What decides which ml-metadata can be loaded.

    Attributes:
        python: Major and minor number.
        system: Linux, Darwin, Windows, as `platform.system` has it.
        machine: x86_64, aarch64, arm64, as `platform.machine` has it.
        glibc: Of the C library; empty where it is another one (musl).
        ml_metadata: The installed version; empty for none.
        protobuf: The installed version; empty for none.
        fault: Why ml-metadata cannot be imported; empty if it can be.
    """

    python: Numbers
    system: str
    machine: str
    glibc: Numbers
    ml_metadata: str
    protobuf: str
    fault: str = ""

    @classmethod
    def here(cls) -> Environment:
        """Return this process's; imports ml-metadata, or tries to."""
        name, libc = platform.libc_ver()
        return cls(
            python=sys.version_info[:2],
            system=platform.system(),
            machine=platform.machine(),
            glibc=_numbers(libc) if name == "glibc" else (),
            ml_metadata=_version("ml-metadata"),
            protobuf=_version("protobuf"),
            fault=_fault(),
        )


@dataclass(frozen=True, slots=True)
class _Wheel:
    """A wheel of ml-metadata's that is on PyPI, and what it needs (no version has a source distribution)."""

    version: Numbers
    pythons: tuple[Numbers, Numbers]
    system: str
    machine: str
    glibc: Numbers
    protobuf: Numbers
    declared_below: int

    def lacks(self, here: Environment) -> str:
        """Return what is wrong with this machine for it; nothing if it fits."""
        oldest, newest = self.pythons
        if (self.system, self.machine) != (here.system, here.machine):
            return f"it has no wheel for {here.system} on {here.machine}"
        if not oldest <= here.python <= newest:
            pythons = f"{_text(oldest)} to {_text(newest)}"
            return f"its wheels are for Python {pythons}, and this is {_text(here.python)}"
        if self.glibc and not here.glibc:
            return f"its wheels need glibc {_text(self.glibc)}, and this C library is another one"
        if here.glibc < self.glibc:
            return f"its wheels need glibc {_text(self.glibc)}, and this is {_text(here.glibc)}"
        return ""


# https://pypi.org/project/ml-metadata/#files; which protobuf each runs with was measured.
_WHEELS: Final = (
    _Wheel((1, 21), ((3, 10), (3, 13)), "Linux", "x86_64", (2, 39), (6, 31), 7),
    _Wheel((1, 21), ((3, 10), (3, 13)), "Darwin", "arm64", (), (6, 31), 7),
    _Wheel((1, 17), ((3, 9), (3, 11)), "Linux", "x86_64", (2, 17), (4, 25), 5),
)


def examine_environment(here: Environment | None = None) -> list[Finding]:
    """Return what is wrong with what is installed here.

    Args:
        here: By default this process's.
    """
    here = here or Environment.here()
    return list(_unloaded(here) if here.fault else _loaded(here))


def _unloaded(here: Environment) -> Iterator[Finding]:
    fitting = next((each for each in _WHEELS if not each.lacks(here)), None)
    if fitting is None:
        wanted = _WHEELS[0] if here.system == "Darwin" else _WHEELS[-1]
        yield Finding(
            "wheel-none",
            f"no version of ml-metadata can be had here: of {_text(wanted.version)}, {wanted.lacks(here)}",
            "use Python 3.10 to 3.13 on Linux x86_64 with glibc 2.39, or up to 3.11 with an older one",
            subject="ml-metadata",
        )
        return
    install = f"pip install 'ml-metadata~={_text(fitting.version)}.0'"
    if not here.ml_metadata:
        yield Finding("ml-metadata-missing", "ml-metadata is not installed", install, subject="ml-metadata")
        return
    installed = _installed(here)
    lack = installed.lacks(here) if installed else ""
    if lack:
        what = f"ml-metadata {here.ml_metadata} cannot be loaded: {lack}"
        yield Finding("glibc-old" if "glibc" in lack else "wheel-none", what, install, subject="ml-metadata")
    elif installed and _numbers(here.protobuf) < installed.protobuf:
        yield Finding(
            "protobuf-old",
            f"ml-metadata {here.ml_metadata} was made for protobuf {_text(installed.protobuf)} and newer, and"
            f" {here.protobuf or 'none'} is installed",
            f"pip install 'protobuf>={_text(installed.protobuf)},<{installed.declared_below}'",
            subject="protobuf",
        )
    else:
        yield Finding(
            "ml-metadata-broken",
            f"ml-metadata {here.ml_metadata} cannot be loaded: {here.fault}",
            f"make a new environment: python -m venv; {install}",
            subject="ml-metadata",
        )


def _loaded(here: Environment) -> Iterator[Finding]:
    installed = _installed(here)
    if installed and _numbers(here.protobuf)[:1] >= (installed.declared_below,):
        yield Finding(
            "protobuf-undeclared",
            f"ml-metadata {here.ml_metadata} asks for protobuf below {installed.declared_below}, and"
            f" {here.protobuf} is installed: it was loaded, and pip may take it for broken",
            f"pip install 'protobuf<{installed.declared_below}', unless something else needs the newer one",
            subject="protobuf",
        )


def _installed(here: Environment) -> _Wheel | None:
    """Return what is known of the installed version: of the nearest that is not newer."""
    known = [each for each in _WHEELS if each.version <= _numbers(here.ml_metadata)[:2]]
    same = [each for each in known if (each.system, each.machine) == (here.system, here.machine)]
    return next(iter(same or known), None)


def _fault() -> str:
    try:
        importlib.import_module("ml_metadata.proto.metadata_store_pb2")
    except Exception as error:  # noqa: BLE001 - its own start raises what it likes
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:300]}"
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> Numbers:
    """Return the numbers that a version begins with."""
    found = []
    for part in text.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def _text(numbers: Numbers) -> str:
    return ".".join(map(str, numbers))
