package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/warehouse"
)

// Finding is one line of the doctor: what was looked at, what is, and whether that is well.
type Finding struct {
	What   string
	Detail string
	// Err says what is wrong and what to do; nil when all is well.
	Err error
}

const (
	// doctorTimeout bounds one look at an engine.
	doctorTimeout = 5 * time.Second
	minFreeBytes  = 2 << 30
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Doctor looks at the installation of cfg. A stopped system is looked at as far as one can without starting it.
func Doctor(ctx context.Context, cfg Config) []Finding {
	running := dataDirInUse(cfg.DataDir)
	state := "stopped: `mekong up` starts it"
	if running {
		state = "running"
	}
	findings := []Finding{
		{What: "system", Detail: state},
		checkDisk(cfg.DataDir),
		checkFormat(cfg.DataDir),
	}
	findings = append(findings, checkEngineFiles(cfg)...)
	if !running {
		return append(findings, checkPorts(ctx, cfg)...)
	}
	return append(findings, checkKafka(ctx, cfg), checkPostgres(ctx, cfg), checkClickHouse(ctx, cfg), checkDoor(ctx, cfg))
}

func dataDirInUse(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "LOCK")); err != nil {
		return false
	}
	unlock, err := durable.LockDir(dir)
	if err != nil {
		return errs.CodeOf(err) == "data_dir_in_use"
	}
	return unlock() != nil
}

func checkDisk(dir string) Finding {
	f := Finding{What: "disk"}
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(existing, &fs); err != nil {
		f.Err = errs.Wrap(err, errs.Precondition, "disk_unreadable", "The disk of "+dir+" cannot be looked at")
		return f
	}
	free := fs.Bavail * uint64(fs.Bsize) //nolint:gosec // block sizes are positive
	f.Detail = fmt.Sprintf("%.1f GB free for %s", float64(free)/1e9, dir)
	if free < minFreeBytes {
		f.Err = errs.New(errs.Precondition, "disk_low", "Less than 2 GB are free: make room before events are refused")
	}
	return f
}

func checkFormat(dir string) Finding {
	f := Finding{What: "data directory", Detail: dir}
	if _, err := os.Stat(filepath.Join(dir, versionFile)); err != nil {
		f.Detail += " (new)"
		return f
	}
	f.Err = checkDataVersion(dir)
	return f
}

// checkEngineFiles looks for the files of the engines that would be embedded.
func checkEngineFiles(cfg Config) []Finding {
	var findings []Finding
	look := func(what, path string) {
		f := Finding{What: what, Detail: path}
		if _, err := os.Stat(path); err != nil {
			f.Err = errs.Wrap(err, errs.Precondition, "engine_missing", "It is not installed; run `make engines`, or give the address of an external one")
		}
		findings = append(findings, f)
	}
	if cfg.Postgres.URL == "" {
		look("embedded Postgres", filepath.Join(cfg.Embedded.Postgres.BinDir, "postgres"))
	}
	if cfg.ClickHouse.URL == "" {
		look("embedded ClickHouse", cfg.Embedded.ClickHouse.LibraryPath)
		if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
			findings[len(findings)-1].Err = errs.New(errs.Precondition, "engine_unsupported",
				"The embedded ClickHouse exists for linux-x64 only; set MEKONG_CLICKHOUSE__URL to a ClickHouse server")
		}
	}
	if len(cfg.Kafka.Brokers) == 0 {
		findings = append(findings, Finding{What: "embedded Kafka", Detail: fmt.Sprintf(
			"one broker, no replicas, %d MB a topic, for one machine only; set MEKONG_KAFKA__BROKERS for production", cfg.Embedded.Kafka.TopicBytes>>20)})
	}
	return findings
}

func checkKafka(ctx context.Context, cfg Config) Finding {
	f := Finding{What: "Kafka"}
	if len(cfg.Kafka.Brokers) == 0 {
		cfg.Kafka.Brokers = []string{cfg.Embedded.Kafka.Listen}
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	client, err := kafka.NewClient(cfg.Kafka)
	if err != nil {
		f.Err = err
		return f
	}
	defer client.Close()
	missing, err := kafka.MissingTopics(ctx, client, TopicSpecs())
	f.Detail = strings.Join(cfg.Kafka.Brokers, ", ") + fmt.Sprintf(", %d topics", len(TopicSpecs())-len(missing))
	f.Err = err
	if err == nil && len(missing) > 0 {
		f.Err = errs.New(errs.Precondition, "topics_missing", "Topics are missing: "+strings.Join(missing, ", ")+"; run `mekong topics apply`")
	}
	return f
}

func checkPostgres(ctx context.Context, cfg Config) Finding {
	f := Finding{What: "Postgres"}
	address, err := PostgresURL(cfg)
	if err != nil {
		f.Err = err
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	sets := migrationSets()
	list := make([]postgres.Set, 0, len(sets))
	for _, set := range sets {
		list = append(list, set)
	}
	statuses, err := postgres.Status(ctx, address, list)
	f.Detail, f.Err = fmt.Sprintf("%d schemas at their newest version", len(statuses)), err
	for _, status := range statuses {
		if f.Err == nil {
			f.Err = status.Err()
		}
	}
	return f
}

func checkClickHouse(ctx context.Context, cfg Config) Finding {
	f := Finding{What: "ClickHouse"}
	address, err := ClickHouseDSN(cfg)
	if err != nil {
		f.Err = err
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	cfg.ClickHouse.URL, cfg.ClickHouse.OpenTimeout = config.Secret(address), doctorTimeout
	db, err := clickhouse.Open(ctx, cfg.ClickHouse)
	if err != nil {
		f.Err = err
		return f
	}
	defer func() { _ = db.Close() }()
	status, err := clickhouse.Status(ctx, db, warehouse.ClickHouseMigrations())
	if err != nil {
		f.Err = err
		return f
	}
	f.Detail, f.Err = "schema at its newest version", status.Err()
	return f
}

// checkDoor asks the running process itself.
func checkDoor(ctx context.Context, cfg Config) Finding {
	f := Finding{What: "door", Detail: httpURL(cfg.HTTP) + "/readyz"}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	f.Err = askReady(ctx, "http://"+cfg.Metrics.Listen+"/readyz")
	return f
}
