-- +goose Up

-- Every write of a definition takes a new number. Sequences do not commit in order, so instances that look for changes
-- compare count and sum, which differ after every commit.
CREATE SEQUENCE activation.change_no;

CREATE TABLE activation.destination (
    workspace_id   uuid        NOT NULL,
    destination_id uuid        NOT NULL CONSTRAINT destination_id_key UNIQUE,
    name           text        NOT NULL CHECK (name <> ''),
    enabled        boolean     NOT NULL,
    filter         text        NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('webhook')),
    settings       jsonb       NOT NULL,
    signing_secret text        NOT NULL,
    revision       bigint      NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    change_no      bigint      NOT NULL DEFAULT nextval('activation.change_no'),
    PRIMARY KEY (workspace_id, destination_id),
    CONSTRAINT destination_name_key UNIQUE (workspace_id, name)
);
SELECT mekong.tenant_table('activation.destination');

-- A device whose oldest message failed: everything of it waits behind that message, so that order is kept.
CREATE TABLE activation.parked_device (
    workspace_id    uuid        NOT NULL,
    destination_id  uuid        NOT NULL,
    device_hash     bytea       NOT NULL CHECK (length(device_hash) = 16),
    src_partition   integer     NOT NULL,
    attempts        integer     NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    PRIMARY KEY (destination_id, device_hash)
);
CREATE INDEX parked_device_due ON activation.parked_device (src_partition, destination_id, next_attempt_at);
SELECT mekong.tenant_table('activation.parked_device');

-- Who may change what is parked of a partition: the instance that raised the epoch last.
CREATE TABLE activation.partition_claim (
    src_partition integer PRIMARY KEY,
    epoch         bigint  NOT NULL
);

CREATE TABLE activation.parked_message (
    workspace_id   uuid        NOT NULL,
    destination_id uuid        NOT NULL,
    device_hash    bytea       NOT NULL CHECK (length(device_hash) = 16),
    seq            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    message_id     uuid        NOT NULL,
    -- The resolved event as it came from Kafka.
    value          bytea       NOT NULL,
    attempts       integer     NOT NULL,
    parked_at      timestamptz NOT NULL,
    PRIMARY KEY (destination_id, device_hash, seq),
    CONSTRAINT parked_message_once UNIQUE (destination_id, message_id)
) PARTITION BY HASH (destination_id);
SELECT mekong.tenant_table('activation.parked_message');

CREATE TABLE activation.dead_message (
    workspace_id   uuid        NOT NULL,
    destination_id uuid        NOT NULL,
    message_id     uuid        NOT NULL,
    value          bytea       NOT NULL,
    attempts       integer     NOT NULL,
    reason         text        NOT NULL,
    code           integer     NOT NULL,
    died_at        timestamptz NOT NULL,
    PRIMARY KEY (destination_id, message_id)
) PARTITION BY HASH (destination_id);
SELECT mekong.tenant_table('activation.dead_message');

-- +goose StatementBegin
DO $$
BEGIN
    FOR i IN 0..7 LOOP
        EXECUTE format('CREATE TABLE activation.parked_message_%s PARTITION OF activation.parked_message FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
        EXECUTE format('CREATE TABLE activation.dead_message_%s PARTITION OF activation.dead_message FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
        PERFORM mekong.tenant_table(format('activation.parked_message_%s', i)::regclass);
        PERFORM mekong.tenant_table(format('activation.dead_message_%s', i)::regclass);
    END LOOP;
END
$$;
-- +goose StatementEnd
