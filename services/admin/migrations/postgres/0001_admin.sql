-- +goose Up

-- Rows of an organisation and rows of its workspaces are opened by the same list: an organisation's id stands in
-- mekong.workspaces beside those of workspaces when a transaction may see the organisation as a whole.

CREATE TABLE admin.organisation (
    organisation_id uuid        PRIMARY KEY,
    name            text        NOT NULL CHECK (name <> ''),
    created_at      timestamptz NOT NULL
);
ALTER TABLE admin.organisation ENABLE ROW LEVEL SECURITY;
ALTER TABLE admin.organisation FORCE ROW LEVEL SECURITY;
CREATE POLICY admin_organisation ON admin.organisation TO mekong_app
    USING (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]))
    WITH CHECK (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]));
CREATE POLICY mekong_system ON admin.organisation TO mekong_system USING (true) WITH CHECK (true);

CREATE TABLE admin.workspace (
    workspace_id    uuid        PRIMARY KEY,
    organisation_id uuid        NOT NULL REFERENCES admin.organisation,
    slug            text        NOT NULL CONSTRAINT workspace_slug_key UNIQUE,
    name            text        NOT NULL CHECK (name <> ''),
    time_zone       text        NOT NULL,
    currency        text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    revision        bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    -- For foreign keys that make sure that a workspace is one of the organisation named beside it.
    CONSTRAINT workspace_of_organisation_key UNIQUE (organisation_id, workspace_id)
);
SELECT mekong.tenant_table('admin.workspace');
CREATE POLICY admin_organisation ON admin.workspace TO mekong_app
    USING (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]))
    WITH CHECK (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]));

CREATE TABLE admin.source (
    workspace_id uuid        NOT NULL REFERENCES admin.workspace,
    source_id    uuid        NOT NULL CONSTRAINT source_id_key UNIQUE,
    name         text        NOT NULL CHECK (name <> ''),
    type         text        NOT NULL CHECK (type IN ('web', 'app', 'server', 'webhook')),
    enabled      boolean     NOT NULL,
    origins      text[]      NOT NULL,
    revision     bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    deleted_at   timestamptz,
    PRIMARY KEY (workspace_id, source_id)
);
CREATE UNIQUE INDEX source_name_key ON admin.source (workspace_id, name) WHERE deleted_at IS NULL;
SELECT mekong.tenant_table('admin.source');

CREATE TABLE admin.write_key (
    workspace_id uuid        NOT NULL,
    source_id    uuid        NOT NULL,
    write_key    text        NOT NULL CONSTRAINT write_key_key UNIQUE,
    revision     bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (workspace_id, source_id, write_key),
    FOREIGN KEY (workspace_id, source_id) REFERENCES admin.source
);
SELECT mekong.tenant_table('admin.write_key');

CREATE TABLE admin.api_token (
    -- Null: a token of the whole organisation.
    workspace_id    uuid,
    organisation_id uuid        NOT NULL REFERENCES admin.organisation,
    token_id        uuid        PRIMARY KEY,
    name            text        NOT NULL CHECK (name <> ''),
    scopes          text[]      NOT NULL,
    secret_hash     bytea       NOT NULL CONSTRAINT api_token_secret_key UNIQUE CHECK (length(secret_hash) = 32),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    last_used_at    timestamptz,
    FOREIGN KEY (organisation_id, workspace_id) REFERENCES admin.workspace (organisation_id, workspace_id)
);
CREATE INDEX api_token_organisation_idx ON admin.api_token (organisation_id, created_at, token_id) WHERE revoked_at IS NULL;
SELECT mekong.tenant_table('admin.api_token');
CREATE POLICY admin_organisation ON admin.api_token TO mekong_app
    USING (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]))
    WITH CHECK (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]));

CREATE TABLE admin.audit_entry (
    -- Null: a change of the organisation itself.
    workspace_id    uuid,
    organisation_id uuid        NOT NULL REFERENCES admin.organisation,
    audit_id        uuid        PRIMARY KEY,
    actor           text        NOT NULL,
    action          text        NOT NULL,
    target          text        NOT NULL,
    at              timestamptz NOT NULL,
    request_id      text        NOT NULL,
    FOREIGN KEY (organisation_id, workspace_id) REFERENCES admin.workspace (organisation_id, workspace_id)
);
CREATE INDEX audit_entry_organisation_idx ON admin.audit_entry (organisation_id, at DESC, audit_id DESC);
CREATE INDEX audit_entry_workspace_idx ON admin.audit_entry (workspace_id, at DESC, audit_id DESC);
SELECT mekong.tenant_table('admin.audit_entry');
CREATE POLICY admin_organisation ON admin.audit_entry TO mekong_app
    USING (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]))
    WITH CHECK (organisation_id = ANY (nullif(current_setting('mekong.workspaces', true), '')::uuid[]));
-- What was done stays written, whoever asks.
REVOKE UPDATE, DELETE, TRUNCATE ON admin.audit_entry FROM mekong_app, mekong_system;

SELECT mekong.create_outbox('admin');
