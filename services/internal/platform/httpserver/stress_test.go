package httpserver_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestServerStartsAndStops(t *testing.T) {
	t.Parallel()
	testkit.StressStartStop(t, func(t *testing.T) runtime.Runner {
		t.Helper()
		cfg := httpserver.DefaultConfig()
		cfg.Listen = testkit.FreeAddress(t)
		return httpserver.New("http", "MEKONG_HTTP__LISTEN", cfg, slog.New(slog.DiscardHandler), http.NotFoundHandler(), nil).Runner()
	})
}
