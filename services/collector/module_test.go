package collector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const (
	eventually = 60 * time.Second
	tick       = 5 * time.Millisecond
)

// noAdmin is an admin that is away.
type noAdmin struct{}

var errNoAdmin = errors.New("away")

func (noAdmin) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return errNoAdmin }

func (noAdmin) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errNoAdmin
}

func broker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.SeedTopics(1, stream.ConfigChanges),
		kfake.SeedTopics(stream.EventPartitions, stream.CollectorEvents), kfake.SeedTopics(3, stream.CollectorRejected),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	return cluster, cfg
}

func publishConfig(t testing.TB, cfg kafka.Config, changes ...*adminv1.ConfigChange) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	require.NoError(t, err)
	defer client.Close()
	for _, c := range changes {
		value, err := proto.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: stream.ConfigChanges, Value: value}).FirstErr())
	}
}

func configOf(enabled bool, revision int64) []*adminv1.ConfigChange {
	return []*adminv1.ConfigChange{
		{Revision: 1, Change: &adminv1.ConfigChange_Workspace{Workspace: &adminv1.WorkspaceState{WorkspaceId: workspaceID}}},
		{Revision: revision, Change: &adminv1.ConfigChange_Source{Source: &adminv1.SourceState{WorkspaceId: workspaceID, SourceId: sourceID, Type: "web", Enabled: enabled}}},
		{Revision: 1, Change: &adminv1.ConfigChange_WriteKey{WriteKey: &adminv1.WriteKeyState{WorkspaceId: workspaceID, SourceId: sourceID, WriteKey: testKey}}},
	}
}

func completed() *adminv1.ConfigChange {
	return &adminv1.ConfigChange{Revision: 1, Change: &adminv1.ConfigChange_SnapshotCompleted{SnapshotCompleted: &adminv1.SnapshotCompleted{}}}
}

// running is a module under way with a server in front.
type running struct {
	module *Module
	url    string
	stop   func()
}

func start(t testing.TB, cfg Config, kafkaCfg kafka.Config, dir string) *running {
	t.Helper()
	mux := http.NewServeMux()
	m, err := New(t.Context(), cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Clock: clock.Real(), Kafka: kafkaCfg, HTTP: mux, Admin: noAdmin{}, DataDir: dir,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(m.Runners()))
	for _, r := range m.Runners() {
		started := make(chan struct{})
		go func() { ended <- r.Run(ctx, func() { close(started) }) }()
		<-started
	}
	server := httptest.NewServer(mux)
	stopped := false
	r := &running{module: m, url: server.URL}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		server.Close()
		cancel()
		for range m.Runners() {
			require.NoError(t, <-ended)
		}
		closing, done := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer done()
		_ = m.Close(closing) // records may be left with a broker that is gone
	}
	t.Cleanup(r.stop)
	return r
}

func (r *running) ready(t testing.TB) bool {
	t.Helper()
	for _, runner := range r.module.Runners() {
		if runner.Ready != nil && runner.Ready(t.Context()) != nil {
			return false
		}
	}
	return true
}

func (r *running) post(t testing.TB, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	req.Header.Set("X-Write-Key", testKey)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}

// consumed reads n events of a topic.
func consumed(t testing.TB, cfg kafka.Config, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err())
		records = append(records, fetches.Records()...)
	}
	require.Len(t, records, n)
	return records
}

func TestEventsReachKafka(t *testing.T) {
	t.Parallel()
	for name, enabled := range map[string]bool{"spool": true, "without a volume": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, kafkaCfg := broker(t)
			publishConfig(t, kafkaCfg, append(configOf(true, 1), completed())...)
			cfg := DefaultConfig()
			cfg.Spool.Enabled = enabled
			r := start(t, cfg, kafkaCfg, t.TempDir())
			require.Eventually(t, func() bool { return r.ready(t) }, eventually, tick)
			code, body := r.post(t, "/v1/batch?results=1", `{"batch":[{"type":"page","anonymousId":"a","userId":"u","messageId":"1"},{"type":"page"}]}`)
			require.Equal(t, 200, code, body)
			rec := consumed(t, kafkaCfg, stream.CollectorEvents, 1)[0]
			require.Equal(t, workspaceID+":a", string(rec.Key))
			require.Equal(t, workspaceID, kafka.Header(rec, kafka.HeaderWorkspace))
			require.Equal(t, eventMessage, kafka.Header(rec, kafka.HeaderMessageType))
			require.Equal(t, "1", kafka.Header(rec, kafka.HeaderSchemaVersion))
			var e collectorv1.Event
			require.NoError(t, proto.Unmarshal(rec.Value, &e))
			require.Equal(t, "1", e.GetEventId())
			rec = consumed(t, kafkaCfg, stream.CollectorRejected, 1)[0]
			require.Equal(t, rejectedMessage, kafka.Header(rec, kafka.HeaderMessageType))
			require.Equal(t, workspaceID+":"+sourceID, string(rec.Key))
		})
	}
}

func TestReadyOnlyAfterASnapshot(t *testing.T) {
	t.Parallel()
	_, kafkaCfg := broker(t)
	publishConfig(t, kafkaCfg, configOf(true, 1)...)
	r := start(t, DefaultConfig(), kafkaCfg, t.TempDir())
	require.Eventually(t, func() bool { code, _ := r.post(t, "/v1/page", page); return code == 200 }, eventually, tick)
	require.False(t, r.ready(t))
	publishConfig(t, kafkaCfg, completed())
	require.Eventually(t, func() bool { return r.ready(t) }, eventually, tick)
	publishConfig(t, kafkaCfg, configOf(false, 2)...)
	require.Eventually(t, func() bool { code, _ := r.post(t, "/v1/page", page); return code == 404 }, eventually, tick)
	publishConfig(t, kafkaCfg, configOf(true, 1)...)
	publishConfig(t, kafkaCfg, configOf(true, 3)...)
	require.Eventually(t, func() bool { code, _ := r.post(t, "/v1/page", page); return code == 200 }, eventually, tick)
}

func TestDoorStaysOpenWhileKafkaIsAway(t *testing.T) {
	t.Parallel()
	cluster, kafkaCfg := broker(t)
	publishConfig(t, kafkaCfg, append(configOf(true, 1), completed())...)
	kafkaCfg.PublishTimeout = 200 * time.Millisecond
	dir := t.TempDir()
	r := start(t, DefaultConfig(), kafkaCfg, dir)
	require.Eventually(t, func() bool { return r.ready(t) }, eventually, tick)
	cluster.Close()
	for i := range 3 {
		code, body := r.post(t, "/v1/events", `{"event_id":"`+string(rune('a'+i))+`","event_type":"view","anonymous_id":"x"}`)
		require.Equal(t, 200, code, body)
	}
	r.stop()

	// The next start, with a broker again, forwards what waited.
	_, kafkaCfg = broker(t)
	publishConfig(t, kafkaCfg, append(configOf(true, 1), completed())...)
	start(t, DefaultConfig(), kafkaCfg, dir)
	for i, rec := range consumed(t, kafkaCfg, stream.CollectorEvents, 3) {
		var e collectorv1.Event
		require.NoError(t, proto.Unmarshal(rec.Value, &e))
		require.Equal(t, string(rune('a'+i)), e.GetEventId())
	}
}

func TestWithoutAVolumeKafkaAwayIs503(t *testing.T) {
	t.Parallel()
	cluster, kafkaCfg := broker(t)
	publishConfig(t, kafkaCfg, append(configOf(true, 1), completed())...)
	kafkaCfg.PublishTimeout = 200 * time.Millisecond
	cfg := DefaultConfig()
	cfg.Spool.Enabled = false
	r := start(t, cfg, kafkaCfg, t.TempDir())
	require.Eventually(t, func() bool { return r.ready(t) }, eventually, tick)
	cluster.Close()
	code, body := r.post(t, "/v1/page", page)
	require.Equal(t, 503, code, body)
	require.Contains(t, body, "kafka_away")
}
