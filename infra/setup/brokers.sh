#!/bin/sh
# Installs what `make test-brokers` needs and no wheel brings, from Debian or Ubuntu: sh infra/setup/brokers.sh
#
# The tests start servers of their own. Where packages start theirs by themselves, those stay as the system wants them.
set -eu

say() { printf 'brokers: %s\n' "$*" >&2; }

missing=
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
for program in pgbouncer redis-server; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  say "install these by your system's own means, then try again:$missing"
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then as_root=; elif command -v sudo >/dev/null; then as_root=sudo; else
  say "only root may install:$missing; ask for: apt-get install$missing"
  exit 1
fi
say "installing$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # several words are meant
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends $missing >/dev/null
