#!/bin/sh
# Makes .venv and installs what a lock names: sh infra/setup/install.sh local|dev|docs
#
# Only hash-checked files are installed. A stamp remembers the locks that were installed, so a second
# call with nothing changed costs nothing.
set -eu
cd "$(dirname "$0")/../.."
set_name=$1
lock=infra/requirements/$set_name.txt
build=infra/requirements/build.txt

say() { printf 'setup: %s\n' "$*" >&2; }

# A version manager's shim may exist and fail, and Debian may lack ensurepip: try before trusting.
is_usable() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

choose_python() {
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else
    set -- python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3 /usr/local/bin/python3
  fi
  for candidate do
    if is_usable "$candidate"; then printf '%s\n' "$candidate"; return; fi
    if is_new_enough "$candidate"; then incomplete=$candidate; fi
  done
  if [ -n "${incomplete:-}" ]; then
    say "$incomplete cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv) and try again"
  else
    say "PixCrawler needs Python 3.11 or newer, and none was found; install one, or name it: make setup PYTHON=/path/to/python3"
  fi
  return 1
}

# Scripts in a moved environment still point to the old place, so such a one is made again.
is_whole() {
  .venv/bin/python -m pip --version >/dev/null 2>&1 && { [ ! -f .venv/.made-in ] || [ "$(cat .venv/.made-in)" = "$PWD" ]; }
}

if ! is_whole; then
  python=$(choose_python)
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi
printf '%s\n' "$PWD" >.venv/.made-in

stamp() { printf '.venv/.installed-%s\n' "$1"; }
wanted() { cat "infra/requirements/$1.txt" "$build" pyproject.toml infra/setup/install.sh | cksum; }
if [ -f "$(stamp "$set_name")" ] && [ "$(cat "$(stamp "$set_name")")" = "$(wanted "$set_name")" ]; then exit 0; fi

say "installing the $set_name set; the first time takes a minute or two"
pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }
pip install --quiet --require-hashes -r "$lock" -r "$build"
# The project itself, by the build tools that were just checked.
pip install --quiet --no-build-isolation --no-deps --editable .
wanted "$set_name" >"$(stamp "$set_name")"
# The development set holds the others.
if [ "$set_name" = dev ]; then for part in local docs; do wanted "$part" >"$(stamp "$part")"; done; fi
say "done"
