package clickhouse

import (
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Ways to compress requests and answers.
const (
	CompressionAuto = "auto"
	CompressionNone = "none"
	CompressionLZ4  = "lz4"
)

const defaultDatabase = "mekong"

// Config says where ClickHouse is.
type Config struct {
	// URL is http(s)://user:password@host:port/database; the database defaults to mekong.
	URL config.Secret `koanf:"url"`
	// MaxConns bounds the connections of one process.
	MaxConns int `koanf:"max_conns"`
	// OpenTimeout is how long Open waits for a server that does not answer yet.
	OpenTimeout time.Duration `koanf:"open_timeout"`
	// DialTimeout bounds one attempt to connect.
	DialTimeout time.Duration `koanf:"dial_timeout"`
	// Compression is none, lz4 or auto: lz4 unless the server is on this machine.
	Compression string `koanf:"compression"`
}

// DefaultConfig suits one process on a machine with few cores; the URL stays empty.
func DefaultConfig() Config {
	return Config{MaxConns: 8, OpenTimeout: 30 * time.Second, DialTimeout: 5 * time.Second, Compression: CompressionAuto}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if _, err := c.endpoint(); err != nil {
		return err
	}
	switch {
	case c.MaxConns < 1:
		return errs.New(errs.Invalid, "clickhouse_conns_invalid", "clickhouse.max_conns must be at least 1")
	case c.OpenTimeout <= 0 || c.DialTimeout <= 0:
		return errs.New(errs.Invalid, "clickhouse_timeout_invalid", "clickhouse.open_timeout and clickhouse.dial_timeout must be positive")
	}
	switch c.Compression {
	case CompressionAuto, CompressionNone, CompressionLZ4:
		return nil
	default:
		return errs.New(errs.Invalid, "clickhouse_compression_invalid", "clickhouse.compression must be auto, none or lz4")
	}
}

// endpoint is what an address says.
type endpoint struct {
	tls                      bool
	host, path               string
	user, password, database string
	lz4                      bool
}

func (c Config) endpoint() (endpoint, error) {
	if c.URL == "" {
		return endpoint{}, errs.New(errs.Invalid, "clickhouse_url_missing",
			"set clickhouse.url (MEKONG_CLICKHOUSE__URL) to the HTTP address of a ClickHouse server")
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" {
		// The parser's own error would repeat the address, and the address holds a password.
		return endpoint{}, errs.New(errs.Invalid, "clickhouse_url_invalid",
			"clickhouse.url is not a ClickHouse HTTP address; use http://user:password@host:8123/database")
	}
	ep := endpoint{tls: u.Scheme == "https", host: u.Host, user: "default", database: defaultDatabase}
	if u.Port() == "" {
		ep.host = net.JoinHostPort(u.Hostname(), map[bool]string{false: "8123", true: "8443"}[ep.tls])
	}
	if name := u.User.Username(); name != "" {
		ep.user = name
	}
	ep.password, _ = u.User.Password()
	if path := strings.Trim(u.Path, "/"); path != "" {
		// A path before the database is the prefix of a proxy.
		cut := strings.LastIndexByte(path, '/')
		ep.database = path[cut+1:]
		if cut > 0 {
			ep.path = "/" + path[:cut]
		}
	}
	ep.lz4 = c.Compression == CompressionLZ4 || c.Compression == CompressionAuto && !isLoopback(u.Hostname())
	return ep, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
