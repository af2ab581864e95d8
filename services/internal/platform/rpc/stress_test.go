package rpc_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestServerStartsAndStops(t *testing.T) {
	t.Parallel()
	testkit.StressStartStop(t, func(t *testing.T) runtime.Runner {
		t.Helper()
		cfg := rpc.DefaultConfig()
		cfg.Listen = freePort(t)
		s, err := rpc.NewServer(cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return s.Runner()
	})
}
