package activation

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// noOutcomes takes attempts for granted.
type noOutcomes struct{}

func (noOutcomes) Record(context.Context, string, string, []attempt) error { return nil }

func fastReceiver(b *testing.B, gate <-chan struct{}) string {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-gate
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(server.Close)
	return server.URL
}

func eventRecord(b *testing.B, n int) *kgo.Record {
	b.Helper()
	e := order()
	e.Event.AnonymousId, e.Event.EventId = "device-"+strconv.Itoa(n), strconv.Itoa(n)
	value, err := proto.Marshal(e)
	require.NoError(b, err)
	return &kgo.Record{Topic: stream.ResolvedEvents, Value: value}
}

// BenchmarkForward is the way of a batch of 500 events from one partition to a receiver on this machine, with a filter
// that all pass, over stores in memory.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{1, 50} {
		b.Run("batch="+strconv.Itoa(size), func(b *testing.B) {
			store := newMemoryStore()
			d := destination(testWorkspace, "a")
			open := make(chan struct{})
			close(open)
			d.Filter, d.Webhook = `event.name == "Order Completed"`, Webhook{URL: fastReceiver(b, open), BatchSize: size, TimeoutS: 10}
			require.NoError(b, store.Insert(b.Context(), d))
			f, err := newForwarder(privateConfig(), slog.New(slog.DiscardHandler), clock.Real(), store, store, noOutcomes{})
			require.NoError(b, err)
			defer func() { require.NoError(b, f.close()) }()
			require.NoError(b, f.Assigned(b.Context(), []*kafka.Assignment{{}}))
			records := make([]*kgo.Record, batchRecords)
			for i := range records {
				records[i] = eventRecord(b, i)
			}
			for b.Loop() {
				require.NoError(b, f.Handle(b.Context(), []*kafka.Batch{{Records: records}}))
			}
			require.Empty(b, store.messages[d.ID])
			b.ReportMetric(float64(b.N)*batchRecords/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkDrain is how fast 20,000 parked messages reach a receiver on this machine, through Postgres and Kafka.
func BenchmarkDrain(b *testing.B) {
	const total = 20_000
	for _, bc := range []struct{ batch, perDevice int }{{1, 1}, {1, 20}, {50, 1}} {
		b.Run("batch="+strconv.Itoa(bc.batch)+"/per-device="+strconv.Itoa(bc.perDevice), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := newStreet(b)
				gate := make(chan struct{})
				d := s.destination(b, fastReceiver(b, gate), func(d *Destination) { d.Webhook.BatchSize = bc.batch })
				parkMany(b, s, d, total, bc.perDevice)
				b.StartTimer()
				m, stop := s.module(b, func(c *Config) { c.RetryInterval = DefaultConfig().RetryInterval })
				require.Eventually(b, func() bool { return len(m.forwarder.owned()) == stream.EventPartitions }, patience, time.Millisecond)
				begin := time.Now()
				close(gate)
				require.Eventually(b, func() bool { return m.forwarder.blockedDevices() == 0 }, patience, time.Millisecond)
				b.ReportMetric(total/time.Since(begin).Seconds(), "messages/s")
				b.StopTimer()
				require.Zero(b, s.queue(b, d).Parked)
				stop()
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func parkMany(b *testing.B, s *street, d Destination, total, perDevice int) {
	b.Helper()
	partitions := make([]int32, stream.EventPartitions)
	for i := range partitions {
		partitions[i] = int32(i) //nolint:gosec // a dozen
	}
	taken, err := s.store.Take(b.Context(), partitions)
	require.NoError(b, err)
	parkings := make([]parking, len(taken))
	for i := range total {
		device := i / perDevice
		p := &parkings[device%len(taken)]
		p.Messages = append(p.Messages, parkingMessage{
			MessageID: messageID(d, strconv.Itoa(i)), Device: deviceNo(device), Value: eventRecord(b, i).Value, NextAttemptAt: start,
		})
	}
	for i, p := range parkings {
		p.WorkspaceID, p.DestinationID, p.At = d.WorkspaceID, d.ID, time.Now()
		require.NoError(b, s.store.Park(b.Context(), taken[i].claim, p))
	}
}
