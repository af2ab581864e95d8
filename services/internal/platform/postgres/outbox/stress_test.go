package outbox_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestRelayStartsAndStops(t *testing.T) {
	db := setup(t)
	testkit.StressStartStop(t, func(t *testing.T) runtime.Runner {
		t.Helper()
		relay, err := outbox.NewRelay(db, table, outbox.DefaultConfig(), newSink().publish, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return relay.Runner()
	})
}
