package kafka_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	embedded "github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestBrokerStartsAndStops(t *testing.T) {
	testkit.StressStartStop(t, func(t *testing.T) runtime.Runner {
		t.Helper()
		b, err := embedded.New(config(t.TempDir()), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return b.Runner()
	})
}
