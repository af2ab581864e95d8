package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// DeadLetterSuffix is appended to a topic's name to get the topic of its dead letters.
const DeadLetterSuffix = ".dlq"

// topicGrace is how long a missing topic may take to appear: another process may be creating it.
const topicGrace = 5 * time.Second

// fetchMaxWait is how long the broker holds a fetch that finds nothing. A partition that goes on after a pause waits for
// the fetch under way, so this bounds how long it stands still.
const fetchMaxWait = 100 * time.Millisecond

// ConsumerConfig says what a Consumer reads and how patient it is.
type ConsumerConfig struct {
	// Group is the consumer group: mekong.<context>.<purpose>. It names the runner too.
	Group  string
	Topics []string
	// Together gives the handler the batches of all partitions at once instead of one lane per partition.
	Together bool
	// MaxRecords bounds the records of one Handle.
	MaxRecords int
	// MaxWait is how long to gather up to MaxRecords from the first record on; 0 takes what is there.
	MaxWait time.Duration
	// QueueRecords and QueueBytes pause a partition that has so much waiting for the handler.
	QueueRecords int
	QueueBytes   int
	// DropBelowWatermark drops records whose src_offset is not above the watermark of their partition.
	DropBelowWatermark bool
	// CommitInterval is how long finished work may wait for its offset commit.
	CommitInterval time.Duration
	// MaxAttempts bounds the tries of work that fails with Conflict or Internal.
	MaxAttempts int
	BackoffMin  time.Duration
	BackoffMax  time.Duration
	// StopTimeout is how long a Handle under way may go on when its partition is taken away or the process stops.
	StopTimeout time.Duration
	// SessionTimeout is how long the group waits for a consumer that vanished.
	SessionTimeout time.Duration
	// CaughtUpLag is the lag per partition below which the consumer is ready.
	CaughtUpLag int64
	// FetchMaxBytes bounds what one fetch brings, a quarter of it what it brings of one partition. Both count compressed
	// bytes: what they become in memory is several times that.
	FetchMaxBytes int32
}

// DefaultConsumerConfig returns the settings that fit a handler of small batches.
func DefaultConsumerConfig(group string, topics ...string) ConsumerConfig {
	return ConsumerConfig{
		Group: group, Topics: topics,
		MaxRecords: 2_000, QueueRecords: 10_000, QueueBytes: 4 << 20,
		CommitInterval: 200 * time.Millisecond,
		MaxAttempts:    5, BackoffMin: 100 * time.Millisecond, BackoffMax: 15 * time.Second,
		StopTimeout: 20 * time.Second, SessionTimeout: 10 * time.Second,
		CaughtUpLag: 1_000, FetchMaxBytes: 4 << 20,
	}
}

// Validate names the first setting that cannot work.
func (c ConsumerConfig) Validate() error {
	invalid := func(what string) error {
		return errs.New(errs.Invalid, "consumer_config_invalid", fmt.Sprintf("Consumer %q: %s", c.Group, what))
	}
	switch {
	case c.Group == "":
		return invalid("the group is empty")
	case len(c.Topics) == 0:
		return invalid("no topic is named")
	case c.MaxRecords <= 0 || c.QueueRecords < c.MaxRecords || c.QueueBytes <= 0:
		return invalid("max_records must be positive and queue_records at least as large")
	case c.CommitInterval <= 0 || c.StopTimeout <= 0 || c.MaxWait < 0:
		return invalid("commit_interval and stop_timeout must be positive, max_wait not negative")
	case c.MaxAttempts < 1 || c.BackoffMin <= 0 || c.BackoffMax < c.BackoffMin:
		return invalid("max_attempts and backoff_min must be positive, backoff_max not below backoff_min")
	case c.SessionTimeout < 6*time.Second:
		return invalid("session_timeout must be at least 6 s, the least that Kafka allows")
	case c.CaughtUpLag < 0 || c.FetchMaxBytes <= 0:
		return invalid("caught_up_lag must not be negative, fetch_max_bytes must be positive")
	}
	return nil
}

// Consumer feeds a Handler from a consumer group.
type Consumer struct {
	kafka       Config
	cfg         ConsumerConfig
	handler     Handler
	deadLetters *Publisher
	clock       clock.Clock
	log         *slog.Logger
	metrics     *consumerMetrics

	releaseMu sync.Mutex // one release at a time; taken before commitMu
	commitMu  sync.Mutex // one commit at a time; taken before mu

	mu       sync.Mutex
	client   *kgo.Client
	joined   bool
	parts    map[TopicPartition]*partition
	together *lane // the lane of all partitions with ConsumerConfig.Together
	fatal    chan error
}

// NewConsumer returns a Consumer that sends its dead letters through deadLetters.
func NewConsumer(kafka Config, cfg ConsumerConfig, handler Handler, deadLetters *Publisher, log *slog.Logger) (*Consumer, error) {
	if err := errors.Join(kafka.Validate(), cfg.Validate()); err != nil {
		return nil, err
	}
	c := &Consumer{
		kafka: kafka, cfg: cfg, handler: handler, deadLetters: deadLetters, clock: clock.Real(),
		log:   log.With("group", cfg.Group),
		parts: map[TopicPartition]*partition{},
	}
	var err error
	c.metrics, err = newConsumerMetrics(cfg.Group)
	return c, err
}

// Runner returns the consumer as a runner named after its group; it is ready when each assigned partition has been
// within CaughtUpLag of the end that the log had at its assignment.
func (c *Consumer) Runner() runtime.Runner {
	return runtime.Runner{Name: c.cfg.Group, Run: c.run, Ready: c.ready}
}

func (c *Consumer) run(ctx context.Context, started func()) error {
	c.mu.Lock() // the client may call back before it is known here
	client, err := NewClient(c.kafka, c.groupOptions()...)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	c.client, c.joined, c.fatal = client, false, make(chan error, 1)
	c.together = newLane(c)
	c.mu.Unlock()
	unobserve, err := c.metrics.observeLag(c)
	if err != nil {
		client.Close()
		return err
	}
	defer unobserve()
	started()

	err = c.waitForTopics(ctx, client)
	if err == nil {
		err = c.consume(ctx, client)
	}
	c.shutdown(ctx, client)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Consumer) groupOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(c.cfg.Group),
		kgo.ConsumeTopics(c.cfg.Topics...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(c.cfg.SessionTimeout / 5),
		kgo.RebalanceTimeout(2*c.cfg.StopTimeout + c.cfg.SessionTimeout),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(c.cfg.FetchMaxBytes),
		kgo.FetchMaxPartitionBytes(c.cfg.FetchMaxBytes / 4),
		kgo.MaxConcurrentFetches(1),
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(c.assign),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			if len(added) == 0 { // a member without partitions has caught up; others have when assign is through
				c.mu.Lock()
				defer c.mu.Unlock()
				c.joined = true
			}
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, revoked map[string][]int32) {
			c.release(ctx, flatten(revoked), true)
		}),
		kgo.OnPartitionsLost(func(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
			c.release(ctx, flatten(lost), false)
		}),
	}
}

// waitForTopics waits until Kafka answers, then insists on the topics and on those of their dead letters.
func (c *Consumer) waitForTopics(ctx context.Context, client *kgo.Client) error {
	names := make([]string, 0, 2*len(c.cfg.Topics))
	for _, t := range c.cfg.Topics {
		names = append(names, t, t+DeadLetterSuffix)
	}
	give := c.clock.Now().Add(topicGrace)
	for attempt := 0; ; attempt++ {
		askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		counts, err := partitionCounts(askCtx, client, names)
		cancel()
		if err == nil {
			err = missingTopic(names, counts)
		}
		switch {
		case err == nil:
			return nil
		case errs.KindOf(err) == errs.Unavailable:
			give = c.clock.Now().Add(topicGrace)
			c.log.Warn("kafka does not answer, waiting for it", "error", err)
		case errs.KindOf(err) != errs.Precondition || c.clock.Now().After(give):
			return err
		}
		if !c.sleep(ctx, nil, c.backoff(attempt)) {
			return ctx.Err()
		}
	}
}

func missingTopic(names []string, counts map[string]int32) error {
	for _, n := range names {
		if counts[n] == 0 {
			return errs.New(errs.Precondition, "topic_missing", fmt.Sprintf("Topic %s does not exist; create it with `mekong topics apply`", n))
		}
	}
	return nil
}

// consume polls until ctx is done or something fails that waiting does not heal.
func (c *Consumer) consume(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		c.commitLoop(ctx)
	}()
	defer func() {
		cancel()
		<-committed
	}()
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		c.poll(ctx, client)
	}()
	select {
	case <-polled:
		return nil
	case err := <-c.fatal:
		cancel()
		<-polled
		return err
	}
}

func (c *Consumer) poll(ctx context.Context, client *kgo.Client) {
	failures := 0
	for {
		fetches := client.PollRecords(ctx, c.cfg.QueueRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			client.AllowRebalance()
			return
		}
		failed := false
		fetches.EachError(func(topic string, partition int32, err error) {
			failed = true
			c.log.Warn("fetching from kafka failed", "topic", topic, "partition", partition, "error", err)
			c.metrics.failed(ctx, errs.Unavailable)
		})
		fetches.EachPartition(func(f kgo.FetchTopicPartition) { c.enqueue(client, f) })
		client.AllowRebalance()
		if !failed {
			failures = 0
			continue
		}
		failures++
		if !c.sleep(ctx, nil, c.backoff(failures)) {
			return
		}
	}
}

// enqueue gives records to the lane of their partition and pauses the partition when enough are waiting.
func (c *Consumer) enqueue(client *kgo.Client, f kgo.FetchTopicPartition) {
	tp := TopicPartition{Topic: f.Topic, Partition: f.Partition}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[tp]
	if p == nil {
		return
	}
	p.highWatermark = max(p.highWatermark, f.HighWatermark)
	if len(f.Records) == 0 {
		return
	}
	p.queued += len(f.Records)
	p.queuedBytes += valueBytes(f.Records)
	p.lane.push(&Batch{Topic: f.Topic, Partition: f.Partition, Records: f.Records, queuedAt: c.clock.Now()})
	if (p.queued >= c.cfg.QueueRecords || p.queuedBytes >= c.cfg.QueueBytes) && !p.paused {
		p.paused = true
		// Under the lock, like the resume in cut: in the other order the partition would stay paused for good.
		client.PauseFetchPartitions(map[string][]int32{f.Topic: {f.Partition}})
	}
}

func valueBytes(records []*kgo.Record) int {
	n := 0
	for _, rec := range records {
		n += len(rec.Value)
	}
	return n
}

func (c *Consumer) ready(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.joined {
		return errs.New(errs.Unavailable, "not_assigned", "The consumer group has not given out its partitions yet")
	}
	for tp, p := range c.parts {
		if !p.caughtUp {
			return errs.New(errs.Unavailable, "catching_up",
				fmt.Sprintf("Partition %d of %s is %d records behind", tp.Partition, tp.Topic, max(p.end-p.position, 0)))
		}
	}
	return nil
}

// shutdown ends all lanes, commits what they did and leaves the group, so that others take over at once.
func (c *Consumer) shutdown(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.cfg.StopTimeout)
	defer cancel()
	c.release(ctx, c.owned(), true)
	leaveCtx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	if err := client.LeaveGroupContext(leaveCtx); err != nil {
		c.log.Warn("leaving the consumer group failed, it will notice by itself", "error", err)
	}
	client.CloseAllowingRebalance()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client, c.joined = nil, false
}

func (c *Consumer) owned() []TopicPartition {
	c.mu.Lock()
	defer c.mu.Unlock()
	tps := make([]TopicPartition, 0, len(c.parts))
	for tp := range c.parts {
		tps = append(tps, tp)
	}
	return tps
}

func flatten(m map[string][]int32) []TopicPartition {
	var tps []TopicPartition
	for t, ps := range m {
		for _, p := range ps {
			tps = append(tps, TopicPartition{Topic: t, Partition: p})
		}
	}
	return tps
}
