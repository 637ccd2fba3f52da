#!/bin/sh
# Prints the ACL file of a Redis: one user for each service, with its least rights and its password's hash.
#
#   REDIS_PASSWORD_GATEWAY=… REDIS_PASSWORD_SCHEDULER=… … sh infra/redis/users.sh > /etc/redis/users.acl
#
# Give REDIS_PASSWORD_ADMIN too for a user `admin` who may run every command on every key. `--redis-6` is for Redis 6.0 and 6.2,
# which cannot tell reading a key from writing it: there a stage may also take bells from the others' queues.
set -eu

folder=$(dirname "$0")

hash_of() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

rights_of() {
  if [ "${redis:-}" = --redis-6 ]; then sed 's/%[RW]*~/~/g; s/ resetchannels / /' "$folder/$1.acl"; else cat "$folder/$1.acl"; fi
}

redis=${1:-}
cat "$folder/default.acl"
for service in gateway scheduler downloader validator uploader; do
  variable=REDIS_PASSWORD_$(printf %s "$service" | tr '[:lower:]' '[:upper:]')
  eval "password=\${$variable:?must be set}"
  printf '%s #%s\n' "$(rights_of "$service")" "$(hash_of "$password")"
done
if [ -n "${REDIS_PASSWORD_ADMIN:-}" ]; then
  printf 'user admin on ~* +@all #%s\n' "$(hash_of "$REDIS_PASSWORD_ADMIN")"
fi
