-- Roles, extensions and the functions that migrations call. Run by the login role on every migration; repeatable.

DO $bootstrap$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['mekong_owner', 'mekong_app', 'mekong_system'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = r) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', r);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- roles are shared by all databases of a server: another one was faster
            END;
        END IF;
        -- May become the role, but has none of its rights until it does.
        IF current_setting('server_version_num')::int >= 160000 THEN
            IF NOT pg_has_role(current_user, r, 'SET') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER WITH SET TRUE, INHERIT FALSE', r);
            END IF;
        ELSIF NOT pg_has_role(current_user, r, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', r);
        END IF;
    END LOOP;
    IF NOT has_database_privilege('mekong_owner', current_database(), 'CREATE') THEN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO mekong_owner', current_database());
    END IF;
END
$bootstrap$;

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public;

SET LOCAL ROLE mekong_owner;

CREATE SCHEMA IF NOT EXISTS mekong;
GRANT USAGE ON SCHEMA mekong TO mekong_app, mekong_system;

-- tenant_table puts a table with a column workspace_id under row-level security.
CREATE OR REPLACE FUNCTION mekong.tenant_table(tenant regclass) RETURNS void
LANGUAGE plpgsql AS $fn$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant);
    -- A setting that was set LOCAL reads as an empty string afterwards, hence nullif; null matches no row.
    EXECUTE format(
        'CREATE POLICY mekong_tenant ON %s TO mekong_app '
        'USING (workspace_id = ANY (nullif(current_setting(''mekong.workspaces'', true), '''')::uuid[])) '
        'WITH CHECK (workspace_id = ANY (nullif(current_setting(''mekong.workspaces'', true), '''')::uuid[]))', tenant);
    EXECUTE format('CREATE POLICY mekong_system ON %s TO mekong_system USING (true) WITH CHECK (true)', tenant);
END
$fn$;

-- outbox_wake tells relays that a schema's outbox has rows; PostgreSQL folds repeats within a transaction.
CREATE OR REPLACE FUNCTION mekong.outbox_wake() RETURNS trigger
LANGUAGE plpgsql AS $fn$
BEGIN
    PERFORM pg_catalog.pg_notify('mekong_outbox', TG_TABLE_SCHEMA);
    RETURN NULL;
END
$fn$;

-- create_outbox makes <context>.outbox; see package outbox for what its columns mean.
CREATE OR REPLACE FUNCTION mekong.create_outbox(context text) RETURNS void
LANGUAGE plpgsql AS $fn$
BEGIN
    -- Rows live for milliseconds: vacuum by count, not by share of a table that is nearly empty.
    EXECUTE format(
        'CREATE TABLE %I.outbox ('
        ' id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,'
        ' xid          xid8        NOT NULL DEFAULT pg_current_xact_id(),'
        ' workspace_id uuid        NOT NULL,'
        ' topic        text        NOT NULL,'
        ' key          bytea       NOT NULL,'
        ' partition    integer,'
        ' headers      jsonb       NOT NULL DEFAULT ''{}'','
        ' value        bytea,'
        ' created_at   timestamptz NOT NULL DEFAULT clock_timestamp()'
        ') WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)', context);
    PERFORM mekong.tenant_table(format('%I.outbox', context)::regclass);
    EXECUTE format(
        'CREATE TRIGGER outbox_wake AFTER INSERT ON %I.outbox '
        'FOR EACH STATEMENT EXECUTE FUNCTION mekong.outbox_wake()', context);
END
$fn$;
