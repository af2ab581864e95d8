package identity

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// BenchmarkWarm consumes, resolves and publishes events whose identifiers are all cached, broker in the same process.
// The bar is 25,000 events a second on 2 cores.
func BenchmarkWarm(b *testing.B) {
	const total, warm = 300_000, 24_000
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(b, err)
	defer cluster.Close()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	client, err := kafka.NewClient(cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(b, err)
	defer client.Close()
	var specs []kafka.TopicSpec
	for _, topic := range stream.Topics() {
		specs = append(specs, kafka.TopicSpec{Name: topic.Name, Partitions: topic.Partitions})
	}
	require.NoError(b, kafka.EnsureTopics(b.Context(), client, specs))
	publisher, err := kafka.NewPublisher(b.Context(), cfg)
	require.NoError(b, err)
	defer func() { require.NoError(b, publisher.Close(b.Context())) }()
	ws := ids.New()
	send := func(from int64, n int) {
		records := benchRecords(b, ws, from, n)
		for i, r := range records {
			r.Topic, r.Partition = stream.CollectorEvents, int32(i%stream.EventPartitions)
		}
		require.NoError(b, client.ProduceSync(b.Context(), records...).FirstErr())
	}
	for b.Loop() {
		b.StopTimer()
		c := newHandler(b, b.TempDir(), NewMemoryStore(clock.Real()), publisher)
		c.rebuild = &rebuilder{store: c.dedupe}
		run := func() (stop func()) {
			consumer, err := kafka.NewConsumer(cfg, DefaultConfig().consumer(), c, publisher, slog.New(slog.DiscardHandler))
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- consumer.Runner().Run(ctx, func() {}) }()
			return func() {
				cancel()
				require.NoError(b, <-done)
			}
		}
		send(0, warm)
		stop := run()
		waitCommitted(b, client)
		stop()
		for from := int64(warm); from < warm+total; from += 20_000 {
			send(from, 20_000)
		}
		b.StartTimer()
		started := time.Now()
		stop = run()
		waitCommitted(b, client)
		b.ReportMetric(total/time.Since(started).Seconds(), "events/s")
		b.StopTimer()
		stop()
		require.NoError(b, c.dedupe.Close())
		b.StartTimer()
	}
}

func waitCommitted(b *testing.B, client *kgo.Client) {
	b.Helper()
	admin := kadm.NewClient(client)
	require.Eventually(b, func() bool {
		ends, err := admin.ListEndOffsets(b.Context(), stream.CollectorEvents)
		if err != nil {
			return false
		}
		// An error until the group exists.
		commits, err := admin.FetchOffsets(b.Context(), stream.GroupIdentity)
		whole := err == nil
		ends.Each(func(end kadm.ListedOffset) {
			commit, ok := commits.Lookup(end.Topic, end.Partition)
			whole = whole && ok && commit.At >= end.Offset
		})
		return whole
	}, time.Minute, 20*time.Millisecond)
}
