package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// TopicSpec says how a topic must be.
type TopicSpec struct {
	Name       string
	Partitions int32
	// Replicas is the replication factor; 0 leaves it to the broker.
	Replicas int16
	// Retention is how long records are kept; 0 leaves it to the broker.
	Retention time.Duration
	// RetentionBytes is how much is kept per partition; 0 leaves it to the broker.
	RetentionBytes int64
	// Compact keeps the newest record per key instead of a time.
	Compact bool
}

func (s TopicSpec) configs() map[string]*string {
	configs := map[string]*string{}
	set := func(name, value string) { configs[name] = &value }
	if s.Compact {
		set("cleanup.policy", "compact")
	}
	if s.Retention > 0 {
		set("retention.ms", strconv.FormatInt(s.Retention.Milliseconds(), 10))
	}
	if s.RetentionBytes > 0 {
		set("retention.bytes", strconv.FormatInt(s.RetentionBytes, 10))
	}
	return configs
}

// EnsureTopics creates the topics of specs that are missing and leaves existing ones as they are. It returns
// Precondition "partition_count_differs" when an existing topic has another number of partitions: keys would move to
// other partitions, so that number is fixed for the life of a topic.
func EnsureTopics(ctx context.Context, client *kgo.Client, specs []TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	names := make([]string, len(specs))
	for i, s := range specs {
		if s.Name == "" || s.Partitions <= 0 {
			return errs.New(errs.Invalid, "topic_spec_invalid", fmt.Sprintf("Topic %q needs a name and a positive partition count", s.Name))
		}
		names[i] = s.Name
	}
	counts, err := partitionCounts(ctx, client, names)
	if err != nil {
		return err
	}
	var wrong, created []string
	for _, s := range specs {
		n, ok := counts[s.Name]
		if !ok {
			if n, err = create(ctx, client, s); err != nil {
				return err
			}
			created = append(created, s.Name)
		}
		if n != s.Partitions {
			wrong = append(wrong, fmt.Sprintf("%s has %d, not %d", s.Name, n, s.Partitions))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return errs.New(errs.Precondition, "partition_count_differs",
			"The partition count of a topic is fixed for its life: "+strings.Join(wrong, "; ")+
				". Set the configured count to what exists, or move the data to a topic of another name")
	}
	return waitVisible(ctx, client, created)
}

// waitVisible waits until the broker tells of the topics: it learns of a new one a moment after it was created.
func waitVisible(ctx context.Context, client *kgo.Client, names []string) error {
	for len(names) > 0 {
		counts, err := partitionCounts(ctx, client, names)
		if err != nil {
			return err
		}
		if len(counts) == len(names) {
			return nil
		}
		wait := time.NewTimer(20 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			return errKafkaAway(ctx.Err())
		}
	}
	return nil
}

// partitionCounts asks the broker how many partitions the topics have, without the client's cache; topics that do not
// exist are left out.
func partitionCounts(ctx context.Context, client *kgo.Client, names []string) (map[string]int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, n := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &n
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, errKafkaAway(err)
	}
	counts := map[string]int32{}
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition) || t.Topic == nil:
		case err != nil && len(t.Partitions) == 0:
			return nil, errKafkaAway(err)
		default:
			counts[*t.Topic] = int32(len(t.Partitions)) //nolint:gosec // partition counts are int32 on the wire
		}
	}
	return counts, nil
}

// create creates the topic and returns its partition count, which differs from the wanted one when another process
// created the topic at the same moment.
func create(ctx context.Context, client *kgo.Client, s TopicSpec) (int32, error) {
	replicas := s.Replicas
	if replicas <= 0 {
		replicas = -1
	}
	_, err := kadm.NewClient(client).CreateTopic(ctx, s.Partitions, replicas, s.configs(), s.Name)
	switch {
	case err == nil:
		return s.Partitions, nil
	case errors.Is(err, kerr.TopicAlreadyExists):
		counts, err := partitionCounts(ctx, client, []string{s.Name})
		return counts[s.Name], err
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return 0, errs.Wrap(err, errs.Precondition, "replication_impossible",
			fmt.Sprintf("Kafka has too few brokers for %d replicas of %s; lower the replication factor", replicas, s.Name))
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return 0, errs.Wrap(err, errs.Forbidden, "topic_create_forbidden",
			fmt.Sprintf("This Kafka user may not create %s; create it with %d partitions or grant the right", s.Name, s.Partitions))
	default:
		return 0, errKafkaAway(err)
	}
}

func errKafkaAway(err error) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.SaslAuthenticationFailed) {
		return errs.Wrap(err, errs.Forbidden, "kafka_forbidden", "Kafka refuses this user; check kafka.sasl_user and its rights")
	}
	return errs.Wrap(err, errs.Unavailable, "kafka_unavailable", "Kafka does not answer; check kafka.brokers and that it runs")
}

// MissingTopics returns the names of specs that Kafka does not have. It fails like EnsureTopics, and changes nothing.
func MissingTopics(ctx context.Context, client *kgo.Client, specs []TopicSpec) ([]string, error) {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	details, err := kadm.NewClient(client).ListTopics(ctx, names...)
	if err != nil {
		return nil, errKafkaAway(err)
	}
	var missing []string
	for _, name := range names {
		if d := details[name]; d.Err != nil || d.Topic == "" {
			missing = append(missing, name)
		}
	}
	return missing, nil
}
