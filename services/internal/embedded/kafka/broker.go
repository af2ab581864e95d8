package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// clusterID never changes: clients that saw another id treat the broker as a different cluster.
const clusterID = "mekong-embedded"

// Broker is the embedded Kafka.
type Broker struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	addr    string
	cluster *kfake.Cluster
	client  *kgo.Client
	facts   Facts
	full    map[string]*kfake.FaultHandle // topics that refuse records
}

// New returns a broker that its runner opens.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Broker{cfg: cfg, log: log.With("component", "embedded.kafka"), addr: cfg.Listen, full: map[string]*kfake.FaultHandle{}}, nil
}

// Addr returns the address of the broker: Config.Listen, with the port that was taken when that was 0.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// Runner returns the broker as a runner: started means that it accepts connections and has checked its log.
func (b *Broker) Runner() runtime.Runner {
	return runtime.Runner{Name: "embedded.kafka", Run: b.run}
}

func (b *Broker) run(ctx context.Context, started func()) (err error) {
	unlock, err := durable.LockDir(b.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := checkVersion(b.cfg.DataDir); err != nil {
		return err
	}
	last, err := readCanary(b.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := checkLogs(b.cfg.DataDir, last, b.log); err != nil {
		return err
	}
	guard := newGuard(b.log)
	cluster, err := b.open(guard)
	if err != nil {
		return err
	}
	closed := false
	closeOnce := func() {
		if !closed {
			closed = true
			b.close(cluster, guard)
		}
	}
	defer closeOnce()
	// Reading the log left about its size in garbage.
	debug.FreeOSMemory()

	admin := kadm.NewClient(b.client)
	canary := &canary{dir: b.cfg.DataDir}
	if err = b.checkCommits(ctx, admin); err == nil {
		err = b.keep(ctx, admin, canary)
	}
	if ctx.Err() != nil {
		// Stopped while starting: what failed is only the question that was cut off.
		return nil
	}
	if err != nil {
		return err
	}
	started()
	err = b.serve(ctx, admin, canary, guard)
	if err == nil {
		closeOnce()
		if failure := guard.failure(); failure != nil {
			return failure
		}
	}
	return err
}

// open starts kfake on the data directory.
func (b *Broker) open(guard *guard) (*kfake.Cluster, error) {
	listen := func(network, _ string) (net.Listener, error) {
		return net.Listen(network, b.cfg.Listen) //nolint:noctx // kfake's signature has no context
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ListenFn(listen),
		kfake.ClusterID(clusterID),
		kfake.DataDir(b.cfg.DataDir),
		kfake.SyncWrites(),
		kfake.WithLogger(guard),
		kfake.BrokerConfigs(map[string]string{
			"log.retention.ms":          "-1",
			"log.retention.bytes":       "-1",
			"log.cleaner.backoff.ms":    strconv.Itoa(math.MaxInt32),
			"offsets.retention.minutes": strconv.Itoa(10 * 365 * 24 * 60),
			"log.segment.bytes":         strconv.FormatInt(b.cfg.SegmentBytes, 10),
		}),
	)
	if err != nil {
		return nil, openError(err, b.cfg)
	}
	guard.watch(cluster)
	addr := cluster.ListenAddrs()[0]
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.ClientID = []string{addr}, "mekong.embedded-kafka"
	client, err := kafka.NewClient(cfg)
	if err != nil {
		cluster.Close()
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster, b.client, b.addr = cluster, client, addr
	return cluster, nil
}

func openError(err error, cfg Config) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return errs.Wrap(err, errs.Precondition, "port_taken", fmt.Sprintf(
			"Another program uses %s, the address of the embedded Kafka; stop it or set MEKONG_EMBEDDED__KAFKA__LISTEN to a free one", cfg.Listen))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return errs.Wrap(err, errs.Precondition, "kafka_listen_failed", fmt.Sprintf(
			"The embedded Kafka cannot listen on %s; set MEKONG_EMBEDDED__KAFKA__LISTEN to an address of this machine", cfg.Listen))
	}
	return errs.Wrap(err, errs.Precondition, "kafka_data_unreadable", fmt.Sprintf(
		"The embedded Kafka cannot read its data in %s; restore the directory from a backup, or move it away to start empty", cfg.DataDir))
}

func (b *Broker) close(cluster *kfake.Cluster, guard *guard) {
	b.mu.Lock()
	client := b.client
	b.cluster, b.client = nil, nil
	b.full = map[string]*kfake.FaultHandle{}
	b.mu.Unlock()
	client.Close()
	cluster.Close()
	if guard.failure() == nil {
		return
	}
	// After a failed write kfake remembers the sequence numbers of a batch that it never stored and may acknowledge
	// its retry as a duplicate; without the file it knows nothing of earlier batches.
	if err := os.Remove(filepath.Join(b.cfg.DataDir, "seq_windows.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.log.Error("removing stale producer state failed, do not reuse the data directory before removing seq_windows.json", "error", err)
	}
}

// serve keeps the log small and the disk proved until ctx is done or a write fails.
func (b *Broker) serve(ctx context.Context, admin *kadm.Client, canary *canary, guard *guard) error {
	keep := time.NewTicker(b.cfg.KeepInterval)
	defer keep.Stop()
	prove := time.NewTicker(b.cfg.CanaryInterval)
	defer prove.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-guard.failed:
			return guard.failure()
		case <-prove.C:
			if err := canary.prove(); err != nil {
				guard.fail(err)
				return err
			}
		case <-keep.C:
			err := b.keep(ctx, admin, canary)
			if err != nil && ctx.Err() == nil && guard.failure() == nil {
				b.log.Warn("looking after the topics failed, trying again", "error", err)
			}
		}
	}
}

// checkCommits refuses a log that ends below what a group has committed: the group would skip whatever is written up
// to there.
func (b *Broker) checkCommits(ctx context.Context, admin *kadm.Client) error {
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return errOwnBroker(err)
	}
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return errOwnBroker(err)
	}
	for _, g := range groups.Groups() {
		commits, err := admin.FetchOffsets(ctx, g)
		if err != nil {
			return errOwnBroker(err)
		}
		for _, c := range commits.Sorted() {
			end, ok := ends.Lookup(c.Topic, c.Partition)
			if ok && end.Err == nil && c.At > end.Offset {
				return errs.New(errs.Precondition, "kafka_log_lost", fmt.Sprintf(
					"Partition %d of %s ends at %d, but group %s has committed %d: records were lost; restore %s from a backup, or move it away to start empty",
					c.Partition, c.Topic, end.Offset, g, c.At, b.cfg.DataDir))
			}
		}
	}
	return nil
}

func errOwnBroker(err error) error {
	return errs.Wrap(err, errs.Unavailable, "embedded_kafka_silent", "The embedded Kafka does not answer; look at its log lines before this one")
}
