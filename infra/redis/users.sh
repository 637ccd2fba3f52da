#!/bin/sh
# Prints the ACL file of a Redis: one user for each service, with its least rights and its password's hash.
#
#   REDIS_PASSWORD_GATEWAY=… REDIS_PASSWORD_SCHEDULER=… … sh infra/redis/users.sh > /etc/redis/users.acl
#
# Give REDIS_PASSWORD_ADMIN too for a user `admin` who may run every command on every key, and REDIS_PASSWORD_FLOWER for a user
# `flower`, whom the stages may then tell what they do. `--redis-6` is for Redis 6.0 and 6.2, which cannot tell reading a key
# from writing it: there a stage may also take bells from the others' queues, and Flower's channels are everybody's.
set -eu

folder=$(dirname "$0")

hash_of() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

rights_of() {
  if [ "${redis:-}" = --redis-6 ]; then sed 's/%[RW]*~/~/g; s/ resetchannels / /; s/ &[^ ]*//g' "$folder/$1.acl"; else cat "$folder/$1.acl"; fi
}

# What lets a stage tell Flower.
events_of() {
  case ${REDIS_PASSWORD_FLOWER:+$1} in
    downloader | validator | uploader) if [ "$redis" = --redis-6 ]; then printf ' +publish'; else printf ' &/*.celeryev/* +publish'; fi ;;
  esac
}

redis=${1:-}
cat "$folder/default.acl"
for service in gateway scheduler downloader validator uploader ${REDIS_PASSWORD_FLOWER:+flower}; do
  variable=REDIS_PASSWORD_$(printf %s "$service" | tr '[:lower:]' '[:upper:]')
  eval "password=\${$variable:?must be set}"
  printf '%s%s #%s\n' "$(rights_of "$service")" "$(events_of "$service")" "$(hash_of "$password")"
done
if [ -n "${REDIS_PASSWORD_ADMIN:-}" ]; then
  printf 'user admin on ~* +@all #%s\n' "$(hash_of "$REDIS_PASSWORD_ADMIN")"
fi
