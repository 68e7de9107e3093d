#!/usr/bin/env bash
# Run the whole test suite; what it needs is installed first. Arguments go to nox: ./test.sh -s lint
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v mariadbd >/dev/null || ! command -v mariadb-install-db >/dev/null || ! command -v git >/dev/null; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q mariadb-server-core mariadb-client-core git
fi

# pyenv hides the Pythons that are not chosen; the tests run on each that is there.
if command -v pyenv >/dev/null; then
  PYENV_VERSION="$(pyenv version-name):$(pyenv versions --bare | tr '\n' ':')"
  export PYENV_VERSION="${PYENV_VERSION%:}"
fi

# nox needs a newer attrs than ml-metadata allows, so it lives in an environment of its own.
[ -x .nox-venv/bin/nox ] || { python3 -m venv .nox-venv && .nox-venv/bin/pip install -q "nox>=2024.10" "uv>=0.4"; }
PATH="$PWD/.nox-venv/bin:$PATH" exec .nox-venv/bin/nox "$@"
