package app

import (
	"log/slog"

	embeddedclickhouse "github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	embeddedkafka "github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	embeddedpostgres "github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Names of the engines as targets.
const (
	engineKafka      = "kafka"
	enginePostgres   = "postgres"
	engineClickHouse = "clickhouse"
)

// engines are the embedded engines of this process. One that is not selected stays nil.
type engines struct {
	kafka      *embeddedkafka.Broker
	postgres   *embeddedpostgres.Server
	clickhouse *embeddedclickhouse.Engine
}

// newEngines creates the selected engines, without starting them, and writes their addresses into cfg.
func newEngines(cfg *Config, selected map[string]bool, log *slog.Logger) (engines, error) {
	var e engines
	var err error
	if selected[engineKafka] {
		cfg.Embedded.Kafka.Topics = topicRules()
		if e.kafka, err = embeddedkafka.New(cfg.Embedded.Kafka, log.With("engine", engineKafka)); err != nil {
			return engines{}, err
		}
		cfg.Kafka.Brokers = []string{cfg.Embedded.Kafka.Listen}
	}
	if selected[enginePostgres] {
		if e.postgres, err = embeddedpostgres.New(cfg.Embedded.Postgres, log.With("engine", enginePostgres)); err != nil {
			return engines{}, err
		}
		cfg.Postgres.URL = config.Secret(e.postgres.URL())
	}
	if selected[engineClickHouse] {
		if e.clickhouse, err = embeddedclickhouse.New(cfg.Embedded.ClickHouse, log.With("engine", engineClickHouse)); err != nil {
			return engines{}, err
		}
		cfg.ClickHouse.URL = config.Secret(e.clickhouse.DSN())
	}
	return e, nil
}

// topicRules tells the embedded Kafka who must have read a record before it may go.
func topicRules() []embeddedkafka.TopicRule {
	topics := stream.Topics()
	rules := make([]embeddedkafka.TopicRule, 0, len(topics))
	for _, t := range topics {
		rules = append(rules, embeddedkafka.TopicRule{Name: t.Name, RequiredGroups: t.Groups, DropOldest: len(t.Groups) == 0})
	}
	return rules
}
