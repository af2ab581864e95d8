package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// reopenPercent of its limit is what a full topic must fall below to take records again.
const reopenPercent = 90

// Facts is what there is to know about the embedded Kafka.
type Facts struct {
	Address string
	DataDir string
	Version string
	Topics  []TopicFacts
}

// TopicFacts describes one topic; Full means that it refuses records.
type TopicFacts struct {
	Name       string
	Partitions int
	Records    int64
	Bytes      int64
	Limit      int64
	Full       bool
}

// Facts returns what the keeper saw last, with the topics in the order of their names.
func (b *Broker) Facts(context.Context) (Facts, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == nil {
		return Facts{}, errs.New(errs.Unavailable, "embedded_kafka_stopped", "The embedded Kafka is not running")
	}
	f := b.facts
	f.Address, f.DataDir, f.Version = b.addr, b.cfg.DataDir, kfakeVersion
	return f, nil
}

// keep deletes what nobody needs, closes topics that are full and opens those that are not any more.
func (b *Broker) keep(ctx context.Context, admin *kadm.Client, canary *canary) error {
	starts, err := admin.ListStartOffsets(ctx)
	if err != nil {
		return errOwnBroker(err)
	}
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return errOwnBroker(err)
	}
	sizes, err := b.sizes(ctx, admin)
	if err != nil {
		return err
	}
	commits, err := b.commits(ctx, admin)
	if err != nil {
		return err
	}
	canary.see(ends)
	trims := kadm.Offsets{}
	var facts []TopicFacts
	for _, name := range sortedTopics(ends) {
		rule := b.cfg.rule(name)
		f := TopicFacts{Name: name, Partitions: len(ends[name]), Bytes: sizes[name], Limit: rule.Bytes}
		for p, end := range ends[name] {
			start, ok := starts.Lookup(name, p)
			if !ok || start.Err != nil || end.Err != nil {
				continue
			}
			f.Records += end.Offset - start.Offset
			if to := b.trimTo(rule, commits, start.Offset, end.Offset, p, f.Bytes); to > start.Offset {
				trims.Add(kadm.Offset{Topic: name, Partition: p, At: to})
			}
		}
		f.Full = b.setFull(name, f.Bytes, rule)
		facts = append(facts, f)
	}
	b.mu.Lock()
	b.facts.Topics = facts
	b.mu.Unlock()
	if len(trims) == 0 {
		return nil
	}
	done, err := admin.DeleteRecords(ctx, trims)
	if err != nil {
		return errOwnBroker(err)
	}
	return done.Error()
}

// trimTo returns up to which offset the records of a partition may go; never the last one, because kfake forgets the
// offsets of an empty partition.
func (b *Broker) trimTo(rule TopicRule, commits map[string]kadm.OffsetResponses, start, end int64, p int32, topicBytes int64) int64 {
	to := start
	switch {
	case len(rule.RequiredGroups) > 0:
		to = end
		for _, g := range rule.RequiredGroups {
			c, ok := commits[g].Lookup(rule.Name, p)
			if !ok || c.Err != nil || c.At < 0 {
				return start
			}
			to = min(to, c.At)
		}
	case rule.DropOldest && topicBytes > rule.Bytes:
		// Half the limit stays, so that this happens rarely.
		to = start + int64(float64(end-start)*(1-float64(rule.Bytes)/2/float64(topicBytes)))
	}
	return min(to, end-1)
}

func (b *Broker) sizes(ctx context.Context, admin *kadm.Client) (map[string]int64, error) {
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return nil, errOwnBroker(err)
	}
	sizes := map[string]int64{}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) { sizes[p.Topic] += p.Size })
	})
	return sizes, nil
}

func (b *Broker) commits(ctx context.Context, admin *kadm.Client) (map[string]kadm.OffsetResponses, error) {
	commits := map[string]kadm.OffsetResponses{}
	for _, t := range b.cfg.Topics {
		for _, g := range t.RequiredGroups {
			if _, ok := commits[g]; ok {
				continue
			}
			c, err := admin.FetchOffsets(ctx, g)
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				return nil, errOwnBroker(err)
			}
			commits[g] = c
		}
	}
	return commits, nil
}

// setFull closes or opens the topic for producers. The answer POLICY_VIOLATION is one that clients do not retry
// silently, so that the door says 503 at once.
func (b *Broker) setFull(name string, bytes int64, rule TopicRule) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	handle := b.full[name]
	switch {
	case b.cluster == nil:
	case handle == nil && bytes >= rule.Bytes && !rule.DropOldest:
		b.full[name] = b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: name, Err: kerr.PolicyViolation, Count: -1})
		b.log.Warn("topic is full and refuses records until its consumers catch up", "topic", name, "bytes", bytes, "limit", rule.Bytes)
	case handle != nil && bytes < rule.Bytes/100*reopenPercent:
		handle.Remove()
		delete(b.full, name)
		b.log.Info("topic takes records again", "topic", name, "bytes", bytes, "limit", rule.Bytes)
	}
	return b.full[name] != nil
}
