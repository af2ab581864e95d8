package warehouse

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

func TestTheDoorIsForServicesOnly(t *testing.T) {
	t.Parallel()
	s := &server{ledger: NewMemoryLedger(clock.Real())}
	_, err := s.GetWatermarks(t.Context(), nil)
	require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
	token := tenant.With(t.Context(), tenant.Principal{TokenID: "t", Scopes: []string{"*"}})
	_, err = s.GetWatermarks(token, nil)
	require.Equal(t, errs.Forbidden, errs.KindOf(err))
	require.Equal(t, errs.Forbidden, errs.KindOf(s.ScanEventHashes(&warehousev1.ScanEventHashesRequest{ToOffset: 1}, serverStream{ctx: token})))
	service := tenant.With(t.Context(), tenant.Principal{Service: true})
	_, err = s.GetWatermarks(service, nil)
	require.NoError(t, err)
	for _, req := range []*warehousev1.ScanEventHashesRequest{
		{SrcPartition: -1, ToOffset: 1}, {FromOffset: -1, ToOffset: 1}, {FromOffset: 5, ToOffset: 5},
	} {
		require.Equal(t, errs.Invalid, errs.KindOf(s.ScanEventHashes(req, serverStream{ctx: service})))
	}
}

// serverStream is a stream of which only the context is asked.
type serverStream struct {
	warehousev1.WarehouseService_ScanEventHashesServer
	ctx context.Context //nolint:containedctx // what a stream is
}

func (s serverStream) Context() context.Context { return s.ctx }

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	for code, change := range map[string]func(*Config){
		"flush_interval_invalid": func(c *Config) { c.FlushInterval = 0 },
		"max_rows_invalid":       func(c *Config) { c.MaxRows = 50_001 },
		"max_bytes_invalid":      func(c *Config) { c.MaxBytes = 1 },
		"timeout_invalid":        func(c *Config) { c.InsertTimeout = 0 },
		"sweep_invalid":          func(c *Config) { c.SweepWindow = c.InsertTimeout },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		require.Equal(t, errs.Invalid, errs.KindOf(cfg.Validate()))
		require.Equal(t, code, errs.CodeOf(cfg.Validate()))
	}
}

// A ledger that was restored from a backup knows less than the consumer group: the log is read again.
func TestALedgerBehindTheGroupReadsTheLogAgain(t *testing.T) {
	t.Parallel()
	ledger := NewMemoryLedger(clock.Real())
	s := newTestService(t, ledger, NewMemoryTables())
	require.NoError(t, s.Store(t.Context(), run(t, 1, 0, 9)))
	h := &handler{log: slog.New(slog.DiscardHandler), service: s, builder: NewBuilder()}
	behind := &kafka.Assignment{TopicPartition: kafka.TopicPartition{Partition: 0}, Start: 70, Watermark: 69}
	level := &kafka.Assignment{TopicPartition: kafka.TopicPartition{Partition: 1}, Start: 10, Watermark: 9}
	require.NoError(t, h.Assigned(t.Context(), []*kafka.Assignment{level, behind}))
	require.EqualValues(t, 0, behind.Start)
	require.EqualValues(t, -1, behind.Watermark)
	require.EqualValues(t, 10, level.Start)
	require.EqualValues(t, 9, level.Watermark)
}

// The columns that data scientists were promised.
func TestFactEventsHasTheDocumentedColumns(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	rows, err := tables.db.Query(t.Context(), "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'fact_events'")
	require.NoError(t, err)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	for _, want := range strings.Fields(`workspace_id event_id event_type event_name ts received_at ingest_date source_id profile_id
		anonymous_id user_id session_id shop_step page_url page_path page_title referrer referrer_domain channel utm_source utm_medium
		utm_campaign utm_term utm_content click_id device_type os browser country region city locale product_id category currency price
		quantity revenue order_id search_query is_bot is_simulated consent properties properties_raw context`) {
		require.True(t, slices.Contains(names, want), want)
	}
}

func TestFactEventsShowsWhatWasSent(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	row := build(t, resolved(3, 9, withStep(collectorv1.ShopStep_SHOP_STEP_PURCHASE),
		withProperties(`{"order_id":"o-1","currency":"VND","products":[{"product_id":"p1","price":18990000,"quantity":1},{"price":"0.5","quantity":3}]}`),
		withContext(`{"page":{"url":"https://shop.example/thanks","referrer":"https://www.pay.example/x"},"consent":{"categoryPreferences":{"ads":false}}}`),
		func(e *identityv1.ResolvedEvent) { e.Event.UserId, e.Event.Traits = "u-1", []byte(`{"plan":"gold"}`) }))
	require.NoError(t, tables.Insert(t.Context(), newBatch(1), []*Row{row}))
	var got struct {
		workspace, event, user, step, url, domain, revenue, order, plan, raw string
		ts                                                                   time.Time
		ads, bot                                                             bool
		priceIsNull                                                          bool
	}
	require.NoError(t, tables.db.QueryRow(t.Context(), `SELECT toString(workspace_id), event_id, user_id, shop_step, page_url, referrer_domain,
		toString(revenue), order_id, traits.plan::String, properties_raw, ts, consent['ads'], is_bot, isNull(price) = 1 FROM fact_events`, nil,
		&got.workspace, &got.event, &got.user, &got.step, &got.url, &got.domain, &got.revenue, &got.order, &got.plan, &got.raw, &got.ts,
		&got.ads, &got.bot, &got.priceIsNull))
	require.Equal(t, testWorkspace, got.workspace)
	require.Equal(t, "event-3-9", got.event)
	require.Equal(t, "u-1", got.user)
	require.Equal(t, "purchase", got.step)
	require.Equal(t, "https://shop.example/thanks", got.url)
	require.Equal(t, "pay.example", got.domain)
	require.Equal(t, "18990001.5", got.revenue)
	require.Equal(t, "o-1", got.order)
	require.Equal(t, "gold", got.plan)
	require.Equal(t, row.Properties, got.raw)
	require.True(t, testTime().Equal(got.ts), got.ts)
	require.False(t, got.ads)
	require.False(t, got.bot)
	require.True(t, got.priceIsNull)
}
