package config_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

type kafka struct {
	Brokers  []string
	SASLUser string
	Password config.Secret
}

type root struct {
	DataDir string
	Kafka   kafka
	HTTP    struct {
		Listen  string
		Timeout time.Duration
		MaxBody int64
	}
	Users map[string]string
	Hook  func() `koanf:"-"`
}

func defaults() *root {
	r := &root{DataDir: "data", Kafka: kafka{Brokers: []string{"a:1"}}}
	r.HTTP.Listen, r.HTTP.Timeout, r.HTTP.MaxBody = ":8080", time.Second, 4<<20
	return r
}

func yamlFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mekong.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestLoadLayersFileThenEnvironment(t *testing.T) {
	t.Parallel()
	got := defaults()
	require.NoError(t, config.Load(got, config.Sources{
		File: yamlFile(t, "data_dir: /from/file\nhttp: {timeout: 3s, listen: ':1'}\nusers: {ann: x}\n"),
		Environ: []string{
			"HOME=/", "MEKONG_HTTP__LISTEN=:2", "MEKONG_KAFKA__BROKERS=b:1,c:2", "MEKONG_KAFKA__SASL_USER=u",
			"MEKONG_HTTP__MAX_BODY=9", "MEKONG_TEST_KAFKA=ignored",
		},
	}))
	want := defaults()
	want.DataDir, want.HTTP.Timeout, want.HTTP.Listen, want.HTTP.MaxBody = "/from/file", 3*time.Second, ":2", 9
	want.Kafka.Brokers, want.Kafka.SASLUser, want.Users = []string{"b:1", "c:2"}, "u", map[string]string{"ann": "x"}
	require.Empty(t, cmp.Diff(want, got))
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file    string
		environ []string
		code    string
		names   string
	}{
		"unknown key in file":       {"kafka: {brokerz: x}", nil, "unknown_setting", "kafka.brokerz"},
		"unknown key in env":        {"", []string{"MEKONG_KAFKA__BROKERZ=x"}, "unknown_setting", "MEKONG_KAFKA__BROKERZ"},
		"not YAML":                  {"a: [", nil, "config_not_yaml", ""},
		"value of the wrong type":   {"http: {timeout: soon}", nil, "setting_does_not_fit", "http.timeout (MEKONG_HTTP__TIMEOUT)"},
		"section given as a scalar": {"http: 8080", nil, "unknown_setting", "http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := config.Sources{Environ: tc.environ}
			if tc.file != "" {
				src.File = yamlFile(t, tc.file)
			}
			err := config.Load(defaults(), src)
			require.Equal(t, tc.code, errs.CodeOf(err))
			require.Equal(t, errs.Invalid, errs.KindOf(err))
			require.ErrorContains(t, err, tc.names)
		})
	}
	err := config.Load(defaults(), config.Sources{File: "/nowhere/mekong.yaml"})
	require.Equal(t, "config_missing", errs.CodeOf(err))
}

func TestLinesShowTheDifferenceAndNoSecret(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.Kafka.Password = "hunter2"
	cfg.Users = map[string]string{"ann": "hunter2"}
	cfg.HTTP.Listen = ":9"
	changed := map[string]config.Line{}
	for _, line := range config.Lines(cfg, defaults()) {
		require.NotContains(t, fmt.Sprint(line), "hunter2")
		if line.Changed {
			changed[line.Key] = line
		}
	}
	require.Len(t, changed, 3)
	require.Equal(t, config.Line{Key: "http.listen", Value: ":9", Default: ":8080", Changed: true}, changed["http.listen"])
	require.NotEmpty(t, changed["kafka.password"].Value)
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	secret := config.Secret("hunter2")
	log.Info("starting", "password", secret)
	text := out.String() + fmt.Sprintf("%v %s %#v %+v", secret, secret, secret, kafka{Password: secret})
	require.NotContains(t, text, "hunter2")
	require.Equal(t, "hunter2", secret.Reveal())
}
