-- +goose Up
-- The number by which the warehouse joins: dense, since bitmaps are made of it.
CREATE SEQUENCE identity.profile_no AS bigint MINVALUE 1;

CREATE TABLE identity.profiles (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    profile_no   bigint      NOT NULL UNIQUE,
    version      bigint      NOT NULL,
    -- The types of which it has the one identifier that a profile may have.
    holds        text[]      NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);
SELECT mekong.tenant_table('identity.profiles');

-- profile_id is null only inside the transaction that found the identifier unknown: its row is the lock.
CREATE TABLE identity.identifiers (
    workspace_id uuid        NOT NULL,
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 16),
    type         text        NOT NULL,
    value        text        NOT NULL,
    profile_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, hash),
    FOREIGN KEY (workspace_id, profile_id) REFERENCES identity.profiles (workspace_id, id)
);
-- Without workspace_id: before its first ANALYZE the planner holds every index that begins with it for equally good, and
-- would look identifiers up through this one, reading the whole workspace each time.
CREATE INDEX identifiers_profile ON identity.identifiers (profile_id);
SELECT mekong.tenant_table('identity.identifiers');

-- Evidence, never changed: event (src_partition, src_offset) carried a and b together.
CREATE TABLE identity.edges (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id  uuid        NOT NULL,
    profile_id    uuid        NOT NULL,
    a             bytea       NOT NULL,
    b             bytea       NOT NULL,
    src_partition integer     NOT NULL,
    src_offset    bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX edges_profile ON identity.edges (profile_id);
SELECT mekong.tenant_table('identity.edges');

-- What was decided about an event, kept until it cannot be replayed.
CREATE TABLE identity.decisions (
    workspace_id    uuid   NOT NULL,
    src_partition   integer NOT NULL,
    src_offset      bigint NOT NULL,
    event_hash      bytea  NOT NULL,
    profile_id      uuid   NOT NULL,
    profile_no      bigint NOT NULL,
    profile_version bigint NOT NULL,
    PRIMARY KEY (src_partition, src_offset, workspace_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
SELECT mekong.tenant_table('identity.decisions');

SELECT mekong.create_outbox('identity');
