-- Gives each service's role its password, from the environment: POSTGRES_PASSWORD_GATEWAY and so on.
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f infra/postgres/roles.sql -f infra/postgres/passwords.sql
--
-- Needs psql 14 or newer. A variable that is missing ends it before anything is changed.
\getenv gateway POSTGRES_PASSWORD_GATEWAY
\getenv scheduler POSTGRES_PASSWORD_SCHEDULER
\getenv downloader POSTGRES_PASSWORD_DOWNLOADER
\getenv validator POSTGRES_PASSWORD_VALIDATOR
\getenv uploader POSTGRES_PASSWORD_UPLOADER

BEGIN;
ALTER ROLE pixcrawler_gateway PASSWORD :'gateway';
ALTER ROLE pixcrawler_scheduler PASSWORD :'scheduler';
ALTER ROLE pixcrawler_downloader PASSWORD :'downloader';
ALTER ROLE pixcrawler_validator PASSWORD :'validator';
ALTER ROLE pixcrawler_uploader PASSWORD :'uploader';
COMMIT;
