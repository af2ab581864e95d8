-- +goose Up

-- One row per insert that was announced. The number of rows and the time are what a recovery compares with ClickHouse.
CREATE TABLE warehouse.batches (
    id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('pending', 'committed', 'condemned', 'aborted')),
    owner text NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    created_at timestamptz NOT NULL,
    settled_at timestamptz
);
CREATE INDEX batches_settled ON warehouse.batches (state, settled_at);

-- Which offsets the batch holds of each partition: above from_offset, up to to_offset.
CREATE TABLE warehouse.batch_partitions (
    batch_id uuid NOT NULL REFERENCES warehouse.batches (id) ON DELETE CASCADE,
    src_partition integer NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL CHECK (to_offset > from_offset),
    PRIMARY KEY (batch_id, src_partition)
);

-- Up to which offset each partition is stored, and the batch that is on its way, if any.
CREATE TABLE warehouse.watermarks (
    src_partition integer PRIMARY KEY,
    src_offset bigint NOT NULL,
    pending uuid REFERENCES warehouse.batches (id),
    updated_at timestamptz NOT NULL DEFAULT now()
);
