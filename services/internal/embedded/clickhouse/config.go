package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// OwnerUser is the user with full rights, except for statements refused to everyone.
const OwnerUser = "mekong"

// DefaultDatabase is made at start; requests that name no database use it.
const DefaultDatabase = "mekong"

// User is a further account of the engine.
type User struct {
	Password config.Secret `koanf:"password"`
	// ReadOnly users may only read: no DDL, no inserts, no settings with reach, no functions that leave the engine.
	ReadOnly bool `koanf:"read_only"`
}

// Config is everything that the embedded ClickHouse can be told.
type Config struct {
	// Listen is the address of the HTTP interface; port 0 takes a free one.
	Listen string `koanf:"listen"`
	// DataDir holds the data, the generated password and the lock.
	DataDir string `koanf:"data_dir"`
	// LibraryPath is the pinned libchdb.so.
	LibraryPath string `koanf:"library_path"`
	// Password of the owner; when empty, a random one is made once and kept in the data directory.
	Password config.Secret `koanf:"password"`
	// Users are accounts beside the owner.
	Users map[string]User `koanf:"users"`
	// ChildCommand starts the child; empty means this executable with the argument engine-clickhouse.
	ChildCommand []string `koanf:"child_command"`

	// MaxMemoryBytes limits the whole engine, MaxQueryMemoryBytes one statement.
	MaxMemoryBytes      int64 `koanf:"max_memory_bytes"`
	MaxQueryMemoryBytes int64 `koanf:"max_query_memory_bytes"`
	// MaxThreads is how many threads one statement uses; 0 means one for each processor.
	MaxThreads int `koanf:"max_threads"`
	// MaxConcurrentQueries run at once; others wait up to MaxQueueTime, then get error 202.
	MaxConcurrentQueries int           `koanf:"max_concurrent_queries"`
	MaxQueueTime         time.Duration `koanf:"max_queue_time"`
	// MaxExecutionTime stops statements that take longer, unless they ask for another limit.
	MaxExecutionTime time.Duration `koanf:"max_execution_time"`
	// ResponseBufferBytes of an answer are held back, so that an error within them is a clean HTTP error.
	ResponseBufferBytes int `koanf:"response_buffer_bytes"`
	// StartTimeout bounds one start of the child, StopTimeout its orderly stop.
	StartTimeout time.Duration `koanf:"start_timeout"`
	StopTimeout  time.Duration `koanf:"stop_timeout"`
}

// DefaultConfig suits one machine that also runs everything else.
func DefaultConfig() Config {
	return Config{
		Listen:               "127.0.0.1:18123",
		DataDir:              ".data/clickhouse",
		LibraryPath:          ".engines/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so",
		MaxMemoryBytes:       3 << 30,
		MaxQueryMemoryBytes:  2 << 30,
		MaxConcurrentQueries: 8,
		MaxQueueTime:         30 * time.Second,
		MaxExecutionTime:     5 * time.Minute,
		ResponseBufferBytes:  1 << 20,
		StartTimeout:         2 * time.Minute,
		StopTimeout:          20 * time.Second,
	}
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "clickhouse.listen must be host:port, not %q", c.Listen)
	check(c.DataDir != "", "clickhouse.data_dir must name a directory")
	check(c.LibraryPath != "", "clickhouse.library_path must name libchdb.so")
	check(c.MaxMemoryBytes >= 512<<20, "clickhouse.max_memory_bytes must be at least 512 MiB")
	check(c.MaxQueryMemoryBytes > 0 && c.MaxQueryMemoryBytes <= c.MaxMemoryBytes,
		"clickhouse.max_query_memory_bytes must be between 1 and max_memory_bytes")
	check(c.MaxThreads >= 0, "clickhouse.max_threads must not be negative")
	check(c.MaxConcurrentQueries > 0, "clickhouse.max_concurrent_queries must be at least 1")
	check(c.MaxQueueTime > 0 && c.MaxExecutionTime >= time.Second && c.StartTimeout > 0 && c.StopTimeout > 0,
		"clickhouse: max_queue_time, start_timeout and stop_timeout must be positive, max_execution_time at least 1s")
	check(c.ResponseBufferBytes >= 0, "clickhouse.response_buffer_bytes must not be negative")
	for name, user := range c.Users {
		check(name != "" && name != OwnerUser && !strings.ContainsAny(name, ":\x00"),
			"clickhouse.users: %q cannot be a user name", name)
		check(user.Password != "", "clickhouse.users.%s needs a password", name)
	}
	if err := errors.Join(problems...); err != nil {
		return errs.New(errs.Invalid, "bad_config", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

func (c Config) threads() int {
	if c.MaxThreads > 0 {
		return c.MaxThreads
	}
	return runtime.NumCPU()
}
