#!/bin/sh
# Writes what docker-compose.yml must be told into .env: sh infra/setup/env.sh [FILE]
#
# Passwords are random, made here and known to nobody. A line that is there stays as it is; only missing ones are added,
# so that it can be run again after an update.
set -eu
umask 077
file=${1:-$(dirname "$0")/../../.env}
touch "$file"
chmod 600 "$file"

random_bytes() { head -c "$1" /dev/urandom; }
secret() { random_bytes 24 | od -An -tx1 | tr -d ' \n'; }
account_key() { random_bytes 64 | base64 | tr -d '\n'; }
value_of() { sed -n "s/^$1=//p" "$file" | tail -n 1; }

note() { grep -qxF "# $1" "$file" || printf '# %s\n' "$1" >>"$file"; }
line() { grep -q "^$1=" "$file" || printf '%s=%s\n' "$1" "$2" >>"$file"; }

note 'Read by docker-compose.yml; keep it secret. docs/how-to/run-with-compose.md tells what else may stand here.'
line COMPOSE_PROJECT_NAME pixcrawler

note 'PostgreSQL: the owner of the database, who migrates and makes API keys, and a role for each service.'
line POSTGRES_PASSWORD "$(secret)"
for service in GATEWAY SCHEDULER DOWNLOADER VALIDATOR UPLOADER; do line "POSTGRES_PASSWORD_$service" "$(secret)"; done

note 'Redis: somebody who may do everything, and a user for each service.'
line REDIS_PASSWORD_ADMIN "$(secret)"
for service in GATEWAY SCHEDULER DOWNLOADER VALIDATOR UPLOADER; do line "REDIS_PASSWORD_$service" "$(secret)"; done

note 'Flower, in the profile observability: its user in Redis, and the password of admin on its pages.'
line REDIS_PASSWORD_FLOWER "$(secret)"
line FLOWER_PASSWORD "$(secret)"

note 'What signs the bells between the services.'
line PIXCRAWLER_BELL_KEY "$(secret)"

note 'Grafana: the user admin, in the profile observability.'
line GRAFANA_PASSWORD "$(secret)"

note 'The emulators of the profiles azure and s3; for stores of your own replace the last four lines.'
line AZURITE_KEY "$(account_key)"
line PIXCRAWLER_AZURE_CONNECTION_STRING \
  "DefaultEndpointsProtocol=http;AccountName=pixcrawler;AccountKey=$(value_of AZURITE_KEY);BlobEndpoint=http://azurite:10000/pixcrawler"
line PIXCRAWLER_S3_ENDPOINT http://s3:5000
line PIXCRAWLER_S3_ACCESS_KEY_ID "$(secret)"
line PIXCRAWLER_S3_SECRET_ACCESS_KEY "$(secret)"
