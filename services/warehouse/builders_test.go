package warehouse

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	testWorkspace = "0190f5a0-0000-7000-8000-000000000001"
	testSource    = "0190f5a0-0000-7000-8000-000000000002"
	testProfile   = "0190f5a0-0000-7000-8000-000000000003"
)

func testTime() time.Time { return time.Date(2026, 10, 18, 12, 34, 56, 789_000_000, time.UTC) }

// resolved is a track event at a place of the log; change may alter it.
func resolved(partition int32, offset int64, change ...func(*identityv1.ResolvedEvent)) *identityv1.ResolvedEvent {
	id := fmt.Sprintf("event-%d-%d", partition, offset)
	hash := ids.Hash128(testWorkspace, id)
	e := &identityv1.ResolvedEvent{
		Event: &collectorv1.Event{
			WorkspaceId: testWorkspace, SourceId: testSource, EventId: id, Type: collectorv1.EventType_EVENT_TYPE_TRACK,
			Name: "Product Viewed", Ts: timestamppb.New(testTime()), ReceivedAt: timestamppb.New(testTime().Add(time.Second)),
			AnonymousId: "device-1", Wire: "v1/track", ShopStep: collectorv1.ShopStep_SHOP_STEP_VIEW,
			Properties: []byte(`{"product_id":"sku-1","price":19.99,"currency":"usd"}`),
		},
		ProfileId: testProfile, ProfileNo: 7, ProfileVersion: 2, SrcPartition: partition, SrcOffset: offset, EventHash: hash[:],
		Identifiers: []*identityv1.Identifier{{Type: "anonymous_id", Hash: hash[:]}},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func withProperties(doc string) func(*identityv1.ResolvedEvent) {
	return func(e *identityv1.ResolvedEvent) { e.Event.Properties = []byte(doc) }
}

func withContext(doc string) func(*identityv1.ResolvedEvent) {
	return func(e *identityv1.ResolvedEvent) { e.Event.Context = []byte(doc) }
}

func withStep(step collectorv1.ShopStep) func(*identityv1.ResolvedEvent) {
	return func(e *identityv1.ResolvedEvent) { e.Event.ShopStep = step }
}

func withTime(t time.Time) func(*identityv1.ResolvedEvent) {
	return func(e *identityv1.ResolvedEvent) { e.Event.Ts = timestamppb.New(t) }
}

func build(t testing.TB, e *identityv1.ResolvedEvent) *Row {
	t.Helper()
	row, err := NewBuilder().Build(e)
	require.NoError(t, err)
	return row
}

// run is rows from the first to the last offset of a partition, over two months.
func run(t testing.TB, partition int32, first, last int64) []*Row {
	t.Helper()
	var rows []*Row
	for offset := first; offset <= last; offset++ {
		at := testTime().AddDate(0, int(offset%2), 0)
		rows = append(rows, build(t, resolved(partition, offset, withTime(at))))
	}
	return rows
}

func newBatch(rows int, spans ...Span) Batch {
	return Batch{
		ID: uuid.Must(uuid.NewV7()), Owner: "test", Rows: rows, Spans: spans,
		CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.InsertTimeout, cfg.SettleTimeout = 20*time.Second, 20*time.Second
	return cfg
}

func newTestService(t testing.TB, ledger Ledger, tables Tables) *Service {
	t.Helper()
	m, err := newMetrics(clock.Real())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.unregister()) })
	return newService(testConfig(), ledger, tables, clock.Real(), slog.New(slog.DiscardHandler), m, ids.New())
}
