package clickhouse_test

import (
	"os"
	"testing"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

func TestConformanceEmbedded(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	chtest.RunConformance(t, chtest.Start(t, chtest.Config(t)).DSN())
}

// TestConformanceExternal runs the same suite against a ClickHouse server that the harness names.
func TestConformanceExternal(t *testing.T) {
	dsn := os.Getenv("MEKONG_TEST_CLICKHOUSE") //nolint:forbidigo // the one place where tests learn of an external server
	if dsn == "" {
		return // none was named: the embedded engine has proved the suite
	}
	t.Parallel()
	chtest.RunConformance(t, dsn)
}
