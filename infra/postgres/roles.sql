-- One role for each service, with what its statements need and nothing else.
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f infra/postgres/roles.sql
--
-- Run it as the owner of the database (with CREATEROLE) or as a superuser, after every `python -m shared.db.migrate`;
-- running it again is harmless. The roles have no password yet, so nobody gets in: give each one with `\password`.
-- Migrations and `python -m gateway.keys` go on using the owner.
BEGIN;

DO $$
DECLARE
    service text;
BEGIN
    FOREACH service IN ARRAY ARRAY['gateway', 'scheduler', 'downloader', 'validator', 'uploader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pixcrawler_' || service) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', 'pixcrawler_' || service);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO pixcrawler_gateway, pixcrawler_scheduler, pixcrawler_downloader, '
                   'pixcrawler_validator, pixcrawler_uploader', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- What an earlier version of this file granted is taken back first.
REVOKE ALL ON ALL TABLES IN SCHEMA public
    FROM pixcrawler_gateway, pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public
    FROM pixcrawler_gateway, pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;

-- Everybody: which schema this is, and what the work consists of.
GRANT USAGE ON SCHEMA public
    TO pixcrawler_gateway, pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT SELECT ON alembic_version, datasets, jobs, chunks, paused_stages
    TO pixcrawler_gateway, pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;

-- The gateway: who asks, what is asked for, what is taken down. It sees chunks, and only makes their bells due.
GRANT SELECT ON tenants, api_keys, uploads, blocked, removals, objects TO pixcrawler_gateway;
-- Administrators make tenants and keys by it, and end keys. What a key may do is never changed.
GRANT INSERT (name, plan, quotas), UPDATE (plan, quotas, suspended_at) ON tenants TO pixcrawler_gateway;
GRANT INSERT, UPDATE (expires_at, revoked_at, replaced_by) ON api_keys TO pixcrawler_gateway;
GRANT UPDATE (purge_no, purge_asked_at, purge_asked_by, purged_at) ON blocked TO pixcrawler_gateway;
GRANT UPDATE (last_used_at) ON api_keys TO pixcrawler_gateway;
GRANT INSERT, DELETE ON datasets, jobs, blocked TO pixcrawler_gateway;
GRANT UPDATE (state, version, error_code, error) ON jobs TO pixcrawler_gateway;
GRANT UPDATE (revision, delete_asked_at) ON datasets TO pixcrawler_gateway;
GRANT UPDATE (dispatched_at) ON chunks TO pixcrawler_gateway;
-- Administrators look at dead letters by it. Of a failed chunk it notes what they wish; the scheduler grants it.
GRANT SELECT ON chunk_events TO pixcrawler_gateway;
GRANT UPDATE (redrive_asked_at, dropped_at) ON chunks TO pixcrawler_gateway;
GRANT SELECT, DELETE ON poison_messages TO pixcrawler_gateway;
GRANT INSERT ON uploads TO pixcrawler_gateway;
GRANT UPDATE (key, size_bytes, sha256, is_complete), DELETE ON uploads TO pixcrawler_gateway;
GRANT SELECT, INSERT, DELETE ON upload_parts TO pixcrawler_gateway;
GRANT SELECT, INSERT ON list_checks TO pixcrawler_gateway;
-- Administrators let entries of the calendar rest, and wish runs of them; the scheduler carries these out.
GRANT SELECT ON calendar, calendar_runs TO pixcrawler_gateway;
GRANT UPDATE (is_enabled) ON calendar TO pixcrawler_gateway;
GRANT INSERT ON calendar_runs TO pixcrawler_gateway;
-- They also make and remove entries that renew a dataset, and no others (see the policies below).
GRANT INSERT (name, schedule, arguments, last_due_at), DELETE ON calendar TO pixcrawler_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO pixcrawler_gateway;
-- They also look who holds which slot and which workers report, and pause stages; everybody heeds a pause.
GRANT SELECT ON slots, cells TO pixcrawler_gateway;
GRANT SELECT (name, expires_at, figures, figures_at) ON leader TO pixcrawler_gateway;
GRANT INSERT, DELETE ON paused_stages TO pixcrawler_gateway;
GRANT USAGE ON SEQUENCE blocked_id_seq TO pixcrawler_gateway;
-- Clients make webhooks and look at what was sent to them. Whoever replaces a secret reads the one before.
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks TO pixcrawler_gateway;
GRANT SELECT, INSERT, UPDATE (state, attempts, next_attempt_at) ON webhook_deliveries TO pixcrawler_gateway;

-- The scheduler: plans, admits, mends and finishes. It neither makes jobs nor changes what was asked for.
GRANT SELECT ON tenants, slots, cells, leader, objects TO pixcrawler_scheduler;
GRANT UPDATE (rows_planned, last_virtual_start) ON tenants TO pixcrawler_scheduler;
GRANT UPDATE (next_row) ON datasets TO pixcrawler_scheduler;
-- … but for datasets that their clients wish gone.
GRANT DELETE ON datasets, jobs TO pixcrawler_scheduler;
GRANT UPDATE (state, version, cursor, planned_rows, planned_chunks, planned_at, started_at, finished_at, waiting_for,
              counts, stored_bytes, replaced, error_code, error) ON jobs TO pixcrawler_scheduler;
GRANT INSERT ON chunks TO pixcrawler_scheduler;
GRANT UPDATE (admitted_at, round, redrive_asked_at) ON chunks TO pixcrawler_scheduler;
GRANT SELECT (id) ON poison_messages TO pixcrawler_scheduler;
GRANT INSERT, UPDATE, DELETE ON slots TO pixcrawler_scheduler;
GRANT DELETE ON cells TO pixcrawler_scheduler;
GRANT INSERT, UPDATE ON leader TO pixcrawler_scheduler;
GRANT SELECT (id, key, is_complete, created_at), DELETE ON uploads TO pixcrawler_scheduler;
GRANT SELECT (created_at), DELETE ON idempotency_keys TO pixcrawler_scheduler;
GRANT SELECT, UPDATE (state, report, error_code, error, tries, finished_at) ON list_checks TO pixcrawler_scheduler;
GRANT USAGE ON SEQUENCE chunks_id_seq TO pixcrawler_scheduler;

-- It tells tenants by their webhooks what became of their jobs.
GRANT SELECT, UPDATE (disabled_at, disabled_why, rests_until) ON webhooks TO pixcrawler_scheduler;
GRANT SELECT, INSERT, DELETE, UPDATE (state, attempts, next_attempt_at, delivered_at, last_status, last_error)
    ON webhook_deliveries TO pixcrawler_scheduler;

-- It also deletes what was taken down, and writes down that it did. It may not see which bytes a row holds.
GRANT SELECT ON blocked TO pixcrawler_scheduler;
GRANT UPDATE (purged_at) ON blocked TO pixcrawler_scheduler;
GRANT UPDATE (purged_to) ON chunks TO pixcrawler_scheduler;
-- And what a refresh replaced.
GRANT UPDATE (renewed_at, edits) ON chunks TO pixcrawler_scheduler;
GRANT UPDATE (is_stale) ON datasets TO pixcrawler_scheduler;
GRANT DELETE ON objects TO pixcrawler_scheduler;
GRANT SELECT (dataset_id, row), DELETE ON fingerprints TO pixcrawler_scheduler;
GRANT SELECT, INSERT, UPDATE (removed_at) ON removals TO pixcrawler_scheduler;
GRANT USAGE ON SEQUENCE removals_id_seq TO pixcrawler_scheduler;
-- And what it finds in destinations that no index names.
GRANT SELECT, INSERT, DELETE ON strays TO pixcrawler_scheduler;

-- Jobs it makes only where the calendar says that a dataset is to be renewed; what failed there is taken over.
GRANT INSERT ON jobs TO pixcrawler_scheduler;
GRANT UPDATE (revision) ON datasets TO pixcrawler_scheduler;
GRANT UPDATE (dropped_at) ON chunks TO pixcrawler_scheduler;

-- It keeps the calendar, and forgets what is old. Of API keys it sees only how long they have been useless.
GRANT SELECT, INSERT, UPDATE, DELETE ON calendar, calendar_runs TO pixcrawler_scheduler;
GRANT SELECT (id, expires_at, revoked_at), DELETE ON api_keys TO pixcrawler_scheduler;
GRANT SELECT (id, chunk_id, from_state, at), DELETE ON chunk_events TO pixcrawler_scheduler;

-- Whoever moves a chunk on: its state, never its place, its rows or its plan. Whoever ends one frees its slot, stores
-- the index and adds to the job's sums.
GRANT UPDATE (state, outcome, fence, owner, lease_until, attempt, crashes, restarts, not_before, ready_at, dispatched_at,
              rings, work_fence, cell, is_settled, counts, progress, work_bytes, stored_bytes, error_code, error,
              ended_at) ON chunks
    TO pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT INSERT ON chunk_events
    TO pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT USAGE ON SEQUENCE chunk_events_id_seq
    TO pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT SELECT, INSERT, UPDATE (size_bytes, sha256, chunk_id), DELETE ON objects
    TO pixcrawler_scheduler, pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;

-- The stages: they report what room they have, pause a job whose store refuses, keep bells that nobody can read.
GRANT UPDATE (state, version, counts, stored_bytes, error_code, error) ON jobs
    TO pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT SELECT, UPDATE (chunk_id) ON slots TO pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT SELECT, INSERT, UPDATE, DELETE ON cells TO pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT INSERT ON poison_messages TO pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;
GRANT USAGE ON SEQUENCE poison_messages_id_seq TO pixcrawler_downloader, pixcrawler_validator, pixcrawler_uploader;

-- What must not be fetched or stored, and which row of a dataset holds which bytes.
GRANT SELECT ON blocked TO pixcrawler_downloader, pixcrawler_uploader;
GRANT SELECT, INSERT, DELETE ON fingerprints TO pixcrawler_uploader;

-- Of the calendar the gateway makes and removes only what administrators added; the rest it can only let rest.
ALTER TABLE calendar ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_scheduler ON calendar;
CREATE POLICY of_the_scheduler ON calendar TO pixcrawler_scheduler USING (true);
DROP POLICY IF EXISTS seen ON calendar;
CREATE POLICY seen ON calendar FOR SELECT TO pixcrawler_gateway USING (true);
DROP POLICY IF EXISTS paused ON calendar;
CREATE POLICY paused ON calendar FOR UPDATE TO pixcrawler_gateway USING (true);
DROP POLICY IF EXISTS added ON calendar;
CREATE POLICY added ON calendar FOR INSERT TO pixcrawler_gateway
    WITH CHECK (arguments ->> 'errand' = 'renew_dataset');
DROP POLICY IF EXISTS removed ON calendar;
CREATE POLICY removed ON calendar FOR DELETE TO pixcrawler_gateway USING (arguments ->> 'errand' = 'renew_dataset');

-- The second wall between tenants: of tables that belong to them the gateway sees the rows of the tenant for whom it
-- works (shared/db/tenancy.py), or all of them where it says so; other services work for all. Rows of a job or a webhook go with it.
-- Keys and tenants are looked up before anybody knows who asks, so they have no such wall.
DO $$
DECLARE
    owned record;
    rule text;
BEGIN
    FOR owned IN
        SELECT c.table_name, bool_or(c.column_name = 'tenant_id') AS has_tenant,
               bool_or(c.column_name = 'webhook_id') AS has_webhook
        FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
          AND c.column_name IN ('tenant_id', 'job_id', 'webhook_id') AND c.table_name <> 'api_keys'
        GROUP BY c.table_name
    LOOP
        rule := CASE WHEN owned.has_tenant
            THEN $rule$current_setting('pixcrawler.tenant', true) IN (tenant_id::text, 'everyone')$rule$
            WHEN owned.has_webhook
            THEN format($rule$current_setting('pixcrawler.tenant', true) = 'everyone'
                        OR EXISTS (SELECT FROM webhooks WHERE webhooks.id = %I.webhook_id)$rule$, owned.table_name)
            ELSE format($rule$current_setting('pixcrawler.tenant', true) = 'everyone'
                        OR EXISTS (SELECT FROM jobs WHERE jobs.id = %I.job_id)$rule$, owned.table_name) END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', owned.table_name);
        EXECUTE format('DROP POLICY IF EXISTS of_the_tenant ON %I', owned.table_name);
        EXECUTE format('CREATE POLICY of_the_tenant ON %I TO pixcrawler_gateway USING (%s)', owned.table_name, rule);
        EXECUTE format('DROP POLICY IF EXISTS of_everyone ON %I', owned.table_name);
        EXECUTE format('CREATE POLICY of_everyone ON %I TO pixcrawler_scheduler, pixcrawler_downloader, '
                       'pixcrawler_validator, pixcrawler_uploader USING (true)', owned.table_name);
    END LOOP;
END $$;

COMMIT;
