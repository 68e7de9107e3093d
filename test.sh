#!/usr/bin/env bash
# Run the whole test suite; what it needs is installed first. Arguments go to nox: ./test.sh -s lint
set -euo pipefail
cd "$(dirname "$0")"

missing=""
command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null ||
  missing="$missing mariadb-server-core mariadb-client-core"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v git >/dev/null || missing="$missing git"
command -v npm >/dev/null || missing="$missing nodejs npm"
if [ -n "$missing" ]; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  # shellcheck disable=SC2086 - several words
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q $missing
fi

# pyenv hides the Pythons that are not chosen; the tests run on each that is there.
if command -v pyenv >/dev/null; then
  PYENV_VERSION="$(pyenv version-name):$(pyenv versions --bare | tr '\n' ':')"
  export PYENV_VERSION="${PYENV_VERSION%:}"
fi

# nox needs a newer attrs than ml-metadata allows, so it lives in an environment of its own.
[ -x .nox-venv/bin/nox ] || { python3 -m venv .nox-venv && .nox-venv/bin/pip install -q "nox>=2024.10" "uv>=0.4"; }
PATH="$PWD/.nox-venv/bin:$PATH" exec .nox-venv/bin/nox "$@"
