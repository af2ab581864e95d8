package kafka_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	embedded "github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka/kafkatest"
)

const eventually = 60 * time.Second

// serveEnv makes the test binary serve a broker instead of running tests: the one that gets killed.
const serveEnv = "MEKONG_TEST_EMBEDDED_KAFKA"

func TestMain(m *testing.M) {
	if spec := os.Getenv(serveEnv); spec != "" { //nolint:forbidigo // how the test talks to its own child
		dir, addr, _ := strings.Cut(spec, "|")
		cfg := config(dir)
		cfg.Listen = addr
		b, err := embedded.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err == nil {
			err = b.Runner().Run(context.Background(), func() { _, _ = fmt.Fprintln(os.Stdout, "started") })
		}
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func config(dir string) embedded.Config {
	cfg := embedded.DefaultConfig()
	cfg.Listen, cfg.DataDir = "127.0.0.1:0", dir
	cfg.KeepInterval, cfg.CanaryInterval = 50*time.Millisecond, 100*time.Millisecond
	return cfg
}

// running is a broker in this process.
type running struct {
	*embedded.Broker
	done chan error
	stop func() error
}

func open(t *testing.T, cfg embedded.Config) *running {
	t.Helper()
	r, err := tryOpen(t, cfg)
	require.NoError(t, err)
	return r
}

// tryOpen returns the error of a broker that does not start.
func tryOpen(t *testing.T, cfg embedded.Config) (*running, error) {
	t.Helper()
	b, err := embedded.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	started := make(chan struct{})
	r := &running{Broker: b, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- b.Runner().Run(ctx, func() { close(started) })
	}()
	r.stop = func() error {
		cancel()
		<-ended
		select {
		case err := <-r.done:
			return err
		default:
			return nil
		}
	}
	t.Cleanup(func() { _ = r.stop() })
	select {
	case <-started:
		return r, nil
	case err := <-r.done:
		cancel()
		return nil, err
	}
}

// closeSoon closes a publisher whose broker may be gone with records in flight.
func closeSoon(t *testing.T, p *kafka.Publisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
	defer cancel()
	_ = p.Close(ctx)
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = []string{addr}
	c, err := kafka.NewClient(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(c.CloseAllowingRebalance)
	return c
}

func createTopic(t *testing.T, c *kgo.Client, topic string) {
	t.Helper()
	require.NoError(t, kafka.EnsureTopics(t.Context(), c, []kafka.TopicSpec{{Name: topic, Partitions: 1, Retention: time.Hour}}))
}

// produce writes values from to to-1 to partition 0 of events, one batch each.
func produce(t *testing.T, c *kgo.Client, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, c.ProduceSync(t.Context(), record(t, "events", i, 100)).FirstErr())
	}
}

func record(t *testing.T, topic string, i, size int) *kgo.Record {
	t.Helper()
	r := &kgo.Record{Topic: topic, Value: append([]byte(fmt.Sprintf("%08d", i)), make([]byte, size)...)}
	kafka.PinPartition(t.Context(), r, 0)
	return r
}

func bounds(t *testing.T, c *kgo.Client, topic string) (start, end int64) {
	t.Helper()
	admin := kadm.NewClient(c)
	starts, err := admin.ListStartOffsets(t.Context(), topic)
	require.NoError(t, err)
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	return starts[topic][0].Offset, ends[topic][0].Offset
}

func commit(t *testing.T, c *kgo.Client, group string, at int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset("events", 0, at, -1)
	require.NoError(t, kadm.NewClient(c).CommitAllOffsets(t.Context(), group, offsets))
}

func partitionDir(dir, topic string) string { return filepath.Join(dir, "partitions", topic+"-0") }

func segments(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.dat"))
	require.NoError(t, err)
	base := func(path string) int {
		n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".dat"))
		require.NoError(t, err)
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return base(a) - base(b) })
	return files
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		p := serve(t, t.TempDir(), freeAddr(t))
		kafkatest.RunConformance(t, kafkatest.Target{Brokers: []string{p.addr}, Restart: func(testing.TB) { p.kill(t); p.start(t) }})
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("real Kafka is left out by -short")
		}
		kafkatest.RunConformance(t, kafkatest.RealTarget(t))
	})
}

// Architecture §5.7: produce, consume, trim, restart; offsets go on.
func TestRetentionDoesNotMoveOffsetsBackwards(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Topics = []embedded.TopicRule{{Name: "events", RequiredGroups: []string{"a", "b"}}}
	for round := range 3 {
		b := open(t, cfg)
		c := client(t, b.Addr())
		createTopic(t, c, "events")
		produce(t, c, round*100, round*100+100)
		end := int64(round*100 + 100)
		commit(t, c, "a", end)
		if round == 0 {
			// One group behind holds everything; commits of a group that is not required do not count.
			commit(t, c, "other", end)
			commit(t, c, "b", 30)
			require.Eventually(t, func() bool { start, _ := bounds(t, c, "events"); return start == 30 }, eventually, 5*time.Millisecond)
		}
		commit(t, c, "b", end)
		require.Eventually(t, func() bool { start, _ := bounds(t, c, "events"); return start == end-1 }, eventually, 5*time.Millisecond)
		c.Close()
		require.NoError(t, b.stop())
	}
	b := open(t, cfg)
	start, end := bounds(t, client(t, b.Addr()), "events")
	require.EqualValues(t, 299, start, "the last record stays")
	require.EqualValues(t, 300, end)
}

// Why the rule above is needed: kfake's own retention empties the partition, and after a restart offsets begin at 0.
// When this test fails, kfake has learnt better and the rule can be reviewed.
func TestOwnRetentionOfKfakeMovesOffsetsBackwards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() (*kfake.Cluster, *kgo.Client) {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites(), kfake.SeedTopics(1, "events"),
			kfake.BrokerConfigs(map[string]string{"log.retention.ms": "1"}))
		require.NoError(t, err)
		return cluster, client(t, cluster.ListenAddrs()[0])
	}
	cluster, c := start()
	produce(t, c, 0, 10)
	require.Eventually(t, func() bool {
		cluster.ApplyRetention()
		s, e := bounds(t, c, "events")
		return s == 10 && e == 10
	}, eventually, 5*time.Millisecond)
	c.Close()
	cluster.Close()
	cluster, c = start()
	defer cluster.Close()
	_, end := bounds(t, c, "events")
	require.Zero(t, end, "kfake keeps the offsets of an empty partition now")
}

func TestRetentionSettingsOfTopicsAreDropped(t *testing.T) {
	t.Parallel()
	b := open(t, config(t.TempDir()))
	c := client(t, b.Addr())
	createTopic(t, c, "events")
	admin := kadm.NewClient(c)
	value := "1"
	for _, name := range []string{"retention.ms", "cleanup.policy"} {
		v := value
		if name == "cleanup.policy" {
			v = "compact"
		}
		_, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: name, Value: &v}}, "events")
		require.NoError(t, err)
	}
	configs, err := admin.DescribeTopicConfigs(t.Context(), "events")
	require.NoError(t, err)
	for _, cfg := range configs[0].Configs {
		if cfg.Key == "retention.ms" {
			require.NotEqual(t, "1", cfg.MaybeValue())
		}
		if cfg.Key == "cleanup.policy" {
			require.Equal(t, "delete", cfg.MaybeValue())
		}
	}
}

func TestFullTopicRefusesUntilItsConsumersCatchUp(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.SegmentBytes, cfg.TopicBytes = 1<<20, 4<<20
	cfg.Topics = []embedded.TopicRule{{Name: "events", RequiredGroups: []string{"g"}}, {Name: "copies", DropOldest: true}}
	b := open(t, cfg)
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers = []string{b.Addr()}
	p, err := kafka.NewPublisher(t.Context(), kcfg, kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(t, err)
	defer closeSoon(t, p)
	createTopic(t, p.Client(), "events")
	createTopic(t, p.Client(), "copies")
	n := 0
	require.Eventually(t, func() bool {
		_, err = p.Publish(t.Context(), record(t, "events", n, 200_000))
		n++
		return err != nil
	}, eventually, time.Millisecond)
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	require.Equal(t, "kafka_full", errs.CodeOf(err))
	started := time.Now()
	_, err = p.Publish(t.Context(), record(t, "events", n, 10))
	require.Equal(t, "kafka_full", errs.CodeOf(err))
	require.Less(t, time.Since(started), time.Second, "a full topic answers at once")
	facts, err := b.Facts(t.Context())
	require.NoError(t, err)
	require.Equal(t, "events", facts.Topics[1].Name)
	require.True(t, facts.Topics[1].Full)
	require.GreaterOrEqual(t, facts.Topics[1].Bytes, cfg.TopicBytes)

	// Other topics are not affected, and copies drop their oldest instead.
	for i := range 60 {
		_, err = p.Publish(t.Context(), record(t, "copies", i, 200_000))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { start, _ := bounds(t, p.Client(), "copies"); return start > 20 }, eventually, 5*time.Millisecond)

	_, end := bounds(t, p.Client(), "events")
	commit(t, p.Client(), "g", end)
	require.Eventually(t, func() bool {
		_, err := p.Publish(t.Context(), record(t, "events", n, 10))
		return err == nil
	}, eventually, 5*time.Millisecond)
}

func TestStartRefusesWhatItCannotServe(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	b := open(t, cfg)
	t.Run("two on one directory", func(t *testing.T) {
		_, err := tryOpen(t, cfg)
		require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
	})
	t.Run("port taken", func(t *testing.T) {
		other := config(t.TempDir())
		other.Listen = b.Addr()
		_, err := tryOpen(t, other)
		require.Equal(t, "port_taken", errs.CodeOf(err))
		require.ErrorContains(t, err, "MEKONG_EMBEDDED__KAFKA__LISTEN")
	})
	t.Run("address of another machine", func(t *testing.T) {
		other := config(t.TempDir())
		other.Listen = "203.0.113.1:19092"
		_, err := tryOpen(t, other)
		require.Equal(t, "kafka_listen_failed", errs.CodeOf(err))
	})
	t.Run("newer data", func(t *testing.T) {
		other := config(t.TempDir())
		require.NoError(t, os.WriteFile(filepath.Join(other.DataDir, "VERSION"), []byte("v0.0.0-29990101000000-abcdefabcdef\n"), 0o600))
		_, err := tryOpen(t, other)
		require.Equal(t, "kafka_data_newer", errs.CodeOf(err))
	})
	t.Run("end below a commit", func(t *testing.T) {
		other := config(t.TempDir())
		b := open(t, other)
		c := client(t, b.Addr())
		createTopic(t, c, "events")
		produce(t, c, 0, 5)
		commit(t, c, "g", 6)
		c.Close()
		require.NoError(t, b.stop())
		_, err := tryOpen(t, other)
		require.Equal(t, "kafka_log_lost", errs.CodeOf(err))
		require.ErrorContains(t, err, "group g has committed 6")
	})
	t.Run("lost files", func(t *testing.T) {
		other, _ := filled(t, 20)
		require.NoError(t, os.RemoveAll(partitionDir(other.DataDir, "events")))
		_, err := tryOpen(t, other)
		require.Equal(t, "kafka_log_lost", errs.CodeOf(err))
	})
	t.Run("unreadable state", func(t *testing.T) {
		other, _ := filled(t, 1)
		require.NoError(t, os.WriteFile(filepath.Join(other.DataDir, "topics.json"), []byte("{"), 0o600))
		_, err := tryOpen(t, other)
		require.Equal(t, "kafka_data_unreadable", errs.CodeOf(err))
	})
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*embedded.Config){
		"embedded.kafka.listen is":     func(c *embedded.Config) { c.Listen = "x" },
		"one address":                  func(c *embedded.Config) { c.Listen = "0.0.0.0:1" },
		"embedded.kafka.data_dir":      func(c *embedded.Config) { c.DataDir = "" },
		"embedded.kafka.segment_bytes": func(c *embedded.Config) { c.TopicBytes = 1 },
		"embedded.kafka.keep_interval": func(c *embedded.Config) { c.KeepInterval = 0 },
		"needs a name and a limit":     func(c *embedded.Config) { c.Topics = []embedded.TopicRule{{}} },
	} {
		cfg := config(t.TempDir())
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), want)
	}
}

func TestVersionIsTheOneThatGoModPins(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile(filepath.Join("..", "..", "..", "go.mod"))
	require.NoError(t, err)
	b := open(t, config(t.TempDir()))
	facts, err := b.Facts(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(mod), "github.com/twmb/franz-go/pkg/kfake "+facts.Version)
	data, err := os.ReadFile(filepath.Join(facts.DataDir, "VERSION"))
	require.NoError(t, err)
	require.Equal(t, facts.Version+"\n", string(data))
}

// filled returns the config of a stopped broker with n records, one batch each, and commits of a group.
func filled(t *testing.T, n int) (embedded.Config, string) {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.SegmentBytes = 1 << 20
	b := open(t, cfg)
	c := client(t, b.Addr(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	createTopic(t, c, "events")
	produce(t, c, 0, n)
	for i := range n {
		commit(t, c, "g", int64(i+1))
	}
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(filepath.Join(cfg.DataDir, "mekong-canary.json"))
		return err == nil && strings.Contains(string(data), fmt.Sprintf(`{"events":{"0":%d}}`, n))
	}, eventually, 5*time.Millisecond)
	c.Close()
	require.NoError(t, b.stop())
	return cfg, partitionDir(cfg.DataDir, "events")
}

// batchSize is the size on disk of one of filled's batches.
const batchSize = 178

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(data), 0o600))
}

// What the disk may do to a log: kfake alone would open each of these and lose records without a word.
func TestDamagedLogsAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   string
		change func(raw []byte) []byte
	}{
		"a bit flips in the middle":       {"kafka_log_damaged", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }},
		"a bit flips in the first batch":  {"kafka_log_damaged", func(b []byte) []byte { b[70] ^= 1; return b }},
		"a bit flips in the last batch":   {"kafka_log_damaged", func(b []byte) []byte { b[len(b)-3] ^= 1; return b }},
		"a length is wrong in the middle": {"kafka_log_damaged", func(b []byte) []byte { b[len(b)/2/batchSize*batchSize+10] ^= 0x7f; return b }},
		"a length points behind the end":  {"kafka_log_damaged", func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 1<<20); return b }},
		"whole batches are cut off":       {"kafka_log_damaged", func(b []byte) []byte { return b[:len(b)/2] }},
		"the last batch is torn":          {"kafka_log_lost", func(b []byte) []byte { return b[:len(b)-7] }},
		"the middle is missing": {"kafka_log_damaged", func(b []byte) []byte {
			return slices.Delete(b, len(b)/3/batchSize*batchSize, len(b)/2/batchSize*batchSize)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, dir := filled(t, 30)
			edit(t, segments(t, dir)[0], func(b []byte) []byte {
				size := 12 + int(binary.BigEndian.Uint32(b[8:]))
				require.Equal(t, batchSize, size, "the cases above count on the size of a batch")
				return c.change(b)
			})
			_, err := tryOpen(t, cfg)
			require.Equal(t, c.code, errs.CodeOf(err), "%v", err)
			require.Equal(t, errs.Precondition, errs.KindOf(err))
			require.ErrorContains(t, err, "restore")
		})
	}
}

func TestDamagedCommitsAreRefused(t *testing.T) {
	t.Parallel()
	cfg, _ := filled(t, 30)
	b := open(t, cfg) // a clean stop compacts the file to one entry; commits after a crash are many
	c := client(t, b.Addr())
	for i := range 30 {
		commit(t, c, "h"+strconv.Itoa(i), 3)
	}
	c.Close()
	require.NoError(t, b.stop())
	path := filepath.Join(cfg.DataDir, "groups.log")
	edit(t, path, func(b []byte) []byte { b[len(b)/2] ^= 8; return b })
	_, err := tryOpen(t, cfg)
	require.Equal(t, "kafka_log_damaged", errs.CodeOf(err))
	require.ErrorContains(t, err, "groups.log")
}

// A batch whose write the crash interrupted was never acknowledged: it is cut, and the broker goes on.
func TestTornTailsAreCut(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]func(batch []byte) []byte{
		"half a batch": func(b []byte) []byte { return b[:len(b)/2] },
		"half a head":  func(b []byte) []byte { return b[:20] },
		"zeros":        func([]byte) []byte { return make([]byte, 300) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, dir := filled(t, 10)
			edit(t, segments(t, dir)[0], func(b []byte) []byte { return append(b, tail(slices.Clone(b[:batchSize]))...) })
			edit(t, filepath.Join(cfg.DataDir, "groups.log"), func(b []byte) []byte { return append(b, b[:30]...) })
			b := open(t, cfg)
			c := client(t, b.Addr())
			_, end := bounds(t, c, "events")
			require.EqualValues(t, 10, end)
			produce(t, c, 10, 12)
			commit(t, c, "g", 11)
			c.Close()
			require.NoError(t, b.stop())
			b = open(t, cfg)
			c = client(t, b.Addr())
			_, end = bounds(t, c, "events")
			require.EqualValues(t, 12, end)
			offsets, err := kadm.NewClient(c).FetchOffsets(t.Context(), "g")
			require.NoError(t, err)
			require.EqualValues(t, 11, offsets["events"][0].At, "a commit behind a torn entry is kept")
		})
	}
}

// process is a broker in a process of its own, which can be killed.
type process struct {
	dir, addr string
	cmd       *exec.Cmd
}

func serve(t *testing.T, dir, addr string) *process {
	t.Helper()
	p := &process{dir: dir, addr: addr}
	p.start(t)
	t.Cleanup(func() { p.kill(t) })
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0]) //nolint:gosec // this test binary
	p.cmd.Env = append(p.cmd.Environ(), serveEnv+"="+p.dir+"|"+p.addr)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = os.Stderr
	require.NoError(t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the broker did not start")
	require.Equal(t, "started\n", line)
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	require.NoError(t, p.cmd.Process.Kill())
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) && !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
	p.cmd = nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(kafkatest.FreePort(t, 1)))
}

func TestKillDuringProduceLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), freeAddr(t))
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers = []string{p.addr}
	publisher, err := kafka.NewPublisher(t.Context(), kcfg)
	require.NoError(t, err)
	defer closeSoon(t, publisher)
	createTopic(t, publisher.Client(), "events")
	acked := 0
	for round := range 4 {
		killed := make(chan struct{})
		goal := acked + 2_000
		for next := acked; acked < goal; {
			var records []*kgo.Record
			for i := range 100 {
				records = append(records, record(t, "events", next+i, 300))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			res, err := publisher.Publish(ctx, records...)
			cancel()
			acked = max(acked, next+res.Prefix())
			if err == nil {
				next += 100
			} else {
				next = acked
			}
			if round < 3 && killed != nil && acked > goal-1_500 {
				close(killed)
				killed = nil
				go p.cmd.Process.Kill() //nolint:errcheck // start notices when it failed: the address is taken
			}
			if err != nil {
				p.kill(t)
				p.start(t)
			}
		}
	}
	c := client(t, p.addr, kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen, last := map[string]bool{}, ""
	for len(seen) < acked {
		fetches := c.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			v := string(r.Value[:8])
			if !seen[v] && v < last {
				t.Errorf("%s came first behind %s", v, last)
			}
			seen[v], last = true, max(last, v)
		})
	}
}

// A disk without room: the broker stops, and what was acknowledged before is there when there is room again.
func TestFullDiskStopsTheBroker(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("mounting a small disk takes root; the check of failing writes below the canary runs without")
		return
	}
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	cfg := config(dir)
	b := open(t, cfg)
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers, kcfg.PublishTimeout = []string{b.Addr()}, 2*time.Second
	p, err := kafka.NewPublisher(t.Context(), kcfg, kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(t, err)
	defer closeSoon(t, p)
	createTopic(t, p.Client(), "events")
	acked := 0
	for err == nil {
		if _, err = p.Publish(t.Context(), record(t, "events", acked, 50_000)); err == nil {
			acked++
		}
	}
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	// The retry must not be acknowledged either: kfake holds the sequence numbers of what it could not write.
	_, err = p.Publish(t.Context(), record(t, "events", acked, 50_000))
	require.Error(t, err)
	select {
	case err = <-b.done:
	case <-time.After(eventually):
		require.Fail(t, "the broker goes on with a full disk")
	}
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	require.Greater(t, acked, 50)

	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=32m"))
	b = open(t, cfg)
	c := client(t, b.Addr())
	_, end := bounds(t, c, "events")
	require.EqualValues(t, acked, end)
	require.NoError(t, c.ProduceSync(t.Context(), record(t, "events", acked, 50_000)).FirstErr())
}

// The canary notices a directory that takes no writes although nobody produces.
func TestCanaryStopsTheBroker(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	b := open(t, cfg)
	require.NoError(t, os.RemoveAll(cfg.DataDir))
	select {
	case err := <-b.done:
		require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	case <-time.After(eventually):
		require.Fail(t, "nobody noticed that the directory is gone")
	}
}

func TestStartsAndStopsAtAnyMoment(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	for range 20 {
		b := open(t, cfg)
		require.NoError(t, b.stop())
	}
}
