package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// fakePublisher keeps what it is given, and fails as often as told.
type fakePublisher struct {
	mu    sync.Mutex
	fails int
	err   error
	got   []string
	calls chan struct{}
}

func (p *fakePublisher) Publish(_ context.Context, records ...*kgo.Record) (kafka.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.calls <- struct{}{}:
	default:
	}
	if p.fails > 0 {
		p.fails--
		return kafka.Result{}, p.err
	}
	for _, r := range records {
		p.got = append(p.got, r.Topic+" "+string(r.Key)+" "+string(r.Value)+" "+kafka.Header(r, "h"))
	}
	return kafka.Result{}, nil
}

func (p *fakePublisher) values() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

func spoolRecord(i int) spool.Record {
	return spool.Record{Topic: "t", Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, "v", i), Headers: []spool.Header{{Name: "h", Value: "x"}}}
}

func TestForwarderWaitsForKafkaAndKeepsOrder(t *testing.T) {
	t.Parallel()
	s, _, err := spool.Open(t.TempDir(), spool.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	clk := clock.NewFake(noon())
	p := &fakePublisher{fails: 3, err: errs.New(errs.Unavailable, "publish_failed", "Away."), calls: make(chan struct{}, 100)}
	ms, err := newMetrics(nil)
	require.NoError(t, err)
	f := &forwarder{queue: s, publisher: p, bytes: 1, clock: clk, log: slog.New(slog.DiscardHandler), metrics: ms}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() { done <- f.run(ctx, func() { close(started) }) }()
	<-started

	var want []string
	for i := range 5 {
		require.NoError(t, s.Append(t.Context(), []spool.Record{spoolRecord(i)}))
		want = append(want, fmt.Sprintf("t k%d v%d x", i, i))
	}
	for range 3 {
		<-p.calls
		require.Eventually(t, func() bool { return clk.Waiting() == 1 }, eventually, tick)
		require.Equal(t, 5, s.Stats().Records, "nothing is trimmed before Kafka has it")
		clk.Advance(maxBackoff)
	}
	require.Eventually(t, func() bool { return s.Stats().Records == 0 }, eventually, tick)
	require.Equal(t, want, p.values())
	cancel()
	require.NoError(t, <-done)
}

func TestForwarderStopsWhileKafkaIsAway(t *testing.T) {
	t.Parallel()
	s, _, err := spool.Open(t.TempDir(), spool.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	p := &fakePublisher{fails: 1000, err: errors.New("away"), calls: make(chan struct{}, 1)}
	ms, err := newMetrics(nil)
	require.NoError(t, err)
	f := &forwarder{queue: s, publisher: p, bytes: 1, clock: clock.NewFake(noon()), log: slog.New(slog.DiscardHandler), metrics: ms}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx, func() {}) }()
	require.NoError(t, s.Append(t.Context(), []spool.Record{spoolRecord(0)}))
	<-p.calls
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 1, s.Stats().Records)
}

func TestWithoutAVolumeKafkaDecides(t *testing.T) {
	t.Parallel()
	p := &fakePublisher{}
	l := kafkaLog{p}
	require.NoError(t, l.Append(t.Context(), nil))
	require.NoError(t, l.Append(t.Context(), []spool.Record{spoolRecord(1)}))
	require.Equal(t, []string{"t k1 v1 x"}, p.values())
	p.fails, p.err = 1, errs.New(errs.Unavailable, "publish_late", "Late.")
	err := l.Append(t.Context(), []spool.Record{spoolRecord(2)})
	require.Equal(t, "kafka_away", errs.CodeOf(err))
	require.Equal(t, kafkaRetryAfter, errs.RetryAfterOf(err))
	p.fails, p.err = 1, errs.New(errs.Invalid, "record_too_large", "Large.")
	require.Equal(t, errs.Invalid, errs.KindOf(l.Append(t.Context(), []spool.Record{spoolRecord(2)})))
}
