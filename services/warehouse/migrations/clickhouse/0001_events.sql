-- +goose NO TRANSACTION
-- +goose Up

-- properties_json, context_json and traits_json are given only where the text as sent cannot go into the JSON type. The
-- conversion is an expression, because a JSON column that is read from a block ignores the settings that keep strings
-- which look like dates from becoming dates.
CREATE TABLE IF NOT EXISTS events
(
    workspace_id UUID,
    event_id String,
    event_hash FixedString(16),
    event_type LowCardinality(String),
    event_name LowCardinality(String),
    shop_step LowCardinality(String),
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    original_ts Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    sent_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    source_id UUID,
    wire LowCardinality(String),
    device_hash UInt64,
    profile_no UInt64,
    profile_id UUID,
    profile_version UInt64,
    identifiers Array(FixedString(16)),
    anonymous_id String,
    user_id String,
    session_id String,
    group_id String,
    previous_id String,
    page_url String CODEC(ZSTD(1)),
    page_path String CODEC(ZSTD(1)),
    page_title String CODEC(ZSTD(1)),
    referrer String CODEC(ZSTD(1)),
    referrer_domain LowCardinality(String),
    channel LowCardinality(String),
    utm_source LowCardinality(String),
    utm_medium LowCardinality(String),
    utm_campaign LowCardinality(String),
    utm_term String,
    utm_content String,
    click_id String,
    device_type LowCardinality(String),
    os LowCardinality(String),
    browser LowCardinality(String),
    country LowCardinality(String),
    region LowCardinality(String),
    city LowCardinality(String),
    locale LowCardinality(String),
    product_id String,
    category LowCardinality(String),
    currency LowCardinality(String),
    price Nullable(Decimal(38, 6)),
    quantity Nullable(Decimal(38, 6)),
    revenue Nullable(Decimal(38, 6)),
    order_id String,
    search_query String,
    is_bot Bool DEFAULT false,
    is_simulated Bool DEFAULT false,
    consent Map(String, Bool),
    flags Array(LowCardinality(String)),
    properties_raw String CODEC(ZSTD(1)),
    properties_json String EPHEMERAL '',
    properties JSON(max_dynamic_paths = 512) DEFAULT CAST(multiIf(properties_json != '', properties_json, properties_raw != '', properties_raw, '{}'), 'JSON(max_dynamic_paths = 512)'),
    context_raw String EPHEMERAL '',
    context JSON(max_dynamic_paths = 128) DEFAULT CAST(if(context_raw != '', context_raw, '{}'), 'JSON(max_dynamic_paths = 128)'),
    traits_raw String CODEC(ZSTD(1)),
    traits_json String EPHEMERAL '',
    traits JSON(max_dynamic_paths = 128) DEFAULT CAST(multiIf(traits_json != '', traits_json, traits_raw != '', traits_raw, '{}'), 'JSON(max_dynamic_paths = 128)'),
    src_partition UInt32,
    src_offset UInt64 CODEC(Delta, ZSTD(1)),
    _batch UUID,
    _inserted_at DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    INDEX inserted _inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (workspace_id, event_name, toDate(ts), device_hash, event_id);

CREATE TABLE IF NOT EXISTS events_by_person
(
    workspace_id UUID,
    device_hash UInt64,
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    event_id String,
    event_type LowCardinality(String),
    event_name LowCardinality(String),
    shop_step LowCardinality(String),
    profile_no UInt64,
    session_id String,
    product_id String,
    currency LowCardinality(String),
    revenue Nullable(Decimal(38, 6)),
    src_partition UInt32,
    src_offset UInt64 CODEC(Delta, ZSTD(1)),
    _batch UUID,
    _inserted_at DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    INDEX inserted _inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (workspace_id, device_hash, ts, event_id);

-- What a block does to the JSON columns can be tried here: nothing is kept.
CREATE TABLE IF NOT EXISTS events_probe
(
    properties_raw String,
    properties JSON(max_dynamic_paths = 512) DEFAULT CAST(if(properties_raw != '', properties_raw, '{}'), 'JSON(max_dynamic_paths = 512)'),
    context_raw String,
    context JSON(max_dynamic_paths = 128) DEFAULT CAST(if(context_raw != '', context_raw, '{}'), 'JSON(max_dynamic_paths = 128)'),
    traits_raw String,
    traits JSON(max_dynamic_paths = 128) DEFAULT CAST(if(traits_raw != '', traits_raw, '{}'), 'JSON(max_dynamic_paths = 128)')
)
ENGINE = Null;

CREATE OR REPLACE VIEW fact_events AS
SELECT
    workspace_id, event_id, event_type, event_name, ts, received_at, toDate(received_at) AS ingest_date, source_id,
    profile_id, anonymous_id, user_id, session_id, shop_step, page_url, page_path, page_title, referrer, referrer_domain,
    channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, device_type, os, browser, country,
    region, city, locale, product_id, category, currency, price, quantity, revenue, order_id, search_query, is_bot,
    is_simulated, consent, flags, properties, properties_raw, context, traits
FROM events;
