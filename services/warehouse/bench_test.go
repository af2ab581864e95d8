package warehouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

const benchRows = 10_000

// benchEvents are encoded events of about one kilobyte, spread over partitions and devices.
func benchEvents(tb testing.TB, first int64) [][]byte {
	tb.Helper()
	out := make([][]byte, benchRows)
	for i := range out {
		n := first + int64(i)
		e := resolved(int32(i%12), n, func(e *identityv1.ResolvedEvent) {
			id := ids.New()
			hash := ids.Hash128(testWorkspace, id)
			e.Event.EventId, e.EventHash = id, hash[:]
			e.Event.AnonymousId = fmt.Sprintf("device-%d", n%5000)
			e.Event.Ts = timestamppb.New(testTime().Add(time.Duration(n) * time.Millisecond))
			e.Event.ShopStep = collectorv1.ShopStep_SHOP_STEP_VIEW
			e.Event.Properties = fmt.Appendf(nil, `{"product_id":"sku-%d","category":"Laptops","currency":"VND","price":%d,"quantity":1,"brand":"Acme","position":%d,
				"list":"search results","tags":["new","sale"],"seller":{"id":%d,"name":"A shop of some size"},"rating":4.5,"in_stock":true,"note":"a text that somebody typed"}`,
				n%700, 100_000+n%9000, n%40, n%90)
			e.Event.Context = []byte(`{"page":{"url":"https://shop.example/p/123?utm_source=google&utm_medium=cpc","path":"/p/123","title":"A laptop","referrer":"https://www.google.com/"},
				"locale":"vi-VN","library":{"name":"analytics.js","version":"4.1.0"},"userAgent":"Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36","screen":{"width":390,"height":844}}`)
		})
		var err error
		out[i], err = proto.Marshal(e)
		require.NoError(tb, err)
	}
	return out
}

func benchRowsOf(tb testing.TB, events [][]byte) []*Row {
	tb.Helper()
	h := &handler{builder: NewBuilder()}
	rows := make([]*Row, len(events))
	for i, e := range events {
		var err error
		rows[i], err = h.row(e, int32(i%12))
		require.NoError(tb, err)
	}
	return rows
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkBuild is decoding and row building alone.
func BenchmarkBuild(b *testing.B) {
	events := benchEvents(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		benchRowsOf(b, events)
	}
	perSecond(b)
}

// BenchmarkSink is the whole sink: decode, build, announce, insert both tables, count, commit.
func BenchmarkSink(b *testing.B) {
	ledger := NewPostgresLedger(testkit.PostgresDB(b, Migrations()))
	s := newTestService(b, ledger, NewClickHouseTables(testkit.ClickHouseDB(b, ClickHouseMigrations())))
	first := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		events := benchEvents(b, first)
		first += benchRows
		b.StartTimer()
		require.NoError(b, s.Store(b.Context(), benchRowsOf(b, events)))
	}
	perSecond(b)
}

// BenchmarkPlainInsert is the yardstick: the same rows into events with clickhouse-go's ordinary batch, row by row.
func BenchmarkPlainInsert(b *testing.B) {
	db := testkit.ClickHouseDB(b, ClickHouseMigrations())
	first := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		rows := benchRowsOf(b, benchEvents(b, first))
		first += benchRows
		b.StartTimer()
		plainInsert(b, db, rows)
	}
	perSecond(b)
}

func plainInsert(b *testing.B, db *clickhouse.DB, rows []*Row) {
	b.Helper()
	columns, names := newEventBlock(&stamp{}).columns, ""
	for i, c := range columns {
		if i > 0 {
			names += ", "
		}
		names += c.Name
	}
	batch, err := db.Conn().PrepareBatch(b.Context(), "INSERT INTO events ("+names+")")
	require.NoError(b, err)
	id := newBatch(1)
	hash := make([]string, 0, 4)
	for _, r := range rows {
		hash = hash[:0]
		for _, h := range r.Identifiers {
			hash = append(hash, string(h[:]))
		}
		args := []any{
			r.Workspace, r.EventID, string(r.EventHash[:]), r.Type, r.Name, r.ShopStep, time.UnixMilli(r.TS), time.UnixMilli(r.ReceivedAt),
			nil, nil, r.Source, r.Wire, r.DeviceHash, r.ProfileNo, r.Profile, r.ProfileVersion, hash, r.AnonymousID, r.UserID, r.GroupID, r.PreviousID,
		}
		for f := range fieldColumns() {
			args = append(args, r.text[f])
		}
		args = append(args, domainOf(r.text[fieldReferrer]), plainAmount(r.Price), plainAmount(r.Quantity), plainAmount(r.Revenue),
			map[string]bool{}, r.Flags, r.Properties, r.PropertiesJSON, r.Context, r.Traits, r.TraitsJSON,
			uint32(r.Partition), uint64(r.Offset), id.ID, id.CreatedAt) //nolint:gosec // never negative
		require.NoError(b, batch.Append(args...))
	}
	require.NoError(b, batch.Send())
}

func plainAmount(a amount) any {
	if !a.set {
		return nil
	}
	return decimal.New(a.micros, -6)
}
