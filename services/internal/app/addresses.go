package app

import (
	"net/url"
	"os"
	"path/filepath"

	embeddedclickhouse "github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	embeddedpostgres "github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Address is one place where something listens.
type Address struct{ What, Address string }

// addresses are those of this process, without any password. Their names need no translation.
func (p *Process) addresses() []Address {
	base := httpURL(p.cfg.HTTP)
	var list []Address
	add := func(selected bool, what, address string) {
		if selected {
			list = append(list, Address{what, address})
		}
	}
	add(p.selected[moduleAPI], "Web", base+"/")
	add(p.selected[moduleAPI], "REST API", base+"/api/docs")
	add(p.selected[moduleCollector], "HTTP /v1", base+"/v1/batch")
	add(true, "/readyz", base+"/readyz")
	add(true, "/metrics", "http://"+p.cfg.Metrics.Listen+"/metrics")
	add(true, "gRPC", p.cfg.GRPC.Listen)
	add(p.selected[engineKafka], "Kafka", p.cfg.Embedded.Kafka.Listen)
	add(p.selected[engineClickHouse], "ClickHouse (HTTP)", p.cfg.Embedded.ClickHouse.Listen)
	add(p.selected[enginePostgres], "Postgres", p.cfg.Embedded.Postgres.Listen)
	return list
}

// Addresses returns the engines' connection strings of an installation, ready to paste into a client.
func Addresses(cfg Config, showPasswords bool) ([]Address, error) {
	clickhouse, err := ClickHouseDSN(cfg)
	if err != nil {
		return nil, err
	}
	postgres, err := PostgresURL(cfg)
	if err != nil {
		return nil, err
	}
	kafka := cfg.Kafka.Brokers
	if len(kafka) == 0 {
		kafka = []string{cfg.Embedded.Kafka.Listen}
	}
	list := []Address{{"http", httpURL(cfg.HTTP)}, {"grpc", cfg.GRPC.Listen}, {"metrics", "http://" + cfg.Metrics.Listen + "/metrics"}}
	for _, broker := range kafka {
		list = append(list, Address{"kafka", broker})
	}
	for _, engine := range []Address{{"clickhouse", clickhouse}, {"postgres", postgres}} {
		if !showPasswords {
			engine.Address = withoutPassword(engine.Address)
		}
		list = append(list, engine)
	}
	return list, nil
}

func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// ClickHouseDSN is the address of ClickHouse with its password: the external one, or that of the embedded engine in the
// data directory.
func ClickHouseDSN(cfg Config) (string, error) {
	if cfg.ClickHouse.URL != "" {
		return cfg.ClickHouse.URL.Reveal(), nil
	}
	if err := requireInstalled(cfg.Embedded.ClickHouse.DataDir); err != nil {
		return "", err
	}
	engine, err := embeddedclickhouse.New(cfg.Embedded.ClickHouse, discard())
	if err != nil {
		return "", err
	}
	return engine.DSN(), nil
}

// PostgresURL is the address of PostgreSQL with its password, like ClickHouseDSN.
func PostgresURL(cfg Config) (string, error) {
	if cfg.Postgres.URL != "" {
		return cfg.Postgres.URL.Reveal(), nil
	}
	if err := requireInstalled(cfg.Embedded.Postgres.DataDir); err != nil {
		return "", err
	}
	return embeddedpostgres.ReadURL(cfg.Embedded.Postgres)
}

func requireInstalled(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return errs.Wrap(err, errs.Precondition, "no_installation",
			"There is no installation in "+filepath.Dir(dir)+"; start one with `mekong up`, or name its --data-dir")
	}
	return nil
}

// SettingLines returns every setting as it would be used, compared with the defaults.
func SettingLines(src config.Sources, dataDir string) ([]config.Line, error) {
	cfg, err := Load(src)
	if err != nil {
		return nil, err
	}
	if dataDir != "" {
		cfg.DataDir = dataDir
	}
	return config.Lines(cfg, DefaultConfig()), nil
}
