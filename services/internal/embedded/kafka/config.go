package kafka

import (
	"fmt"
	"net"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// TopicRule says how the keeper treats a topic. Topics without a rule are never trimmed.
type TopicRule struct {
	Name string
	// RequiredGroups must all have committed a record before it is deleted.
	RequiredGroups []string
	// DropOldest deletes the oldest records when the topic is over its limit, instead of refusing new ones: for topics
	// that are copies of something and that no group has to read in full.
	DropOldest bool
	// Bytes is the size limit; 0 takes Config.TopicBytes.
	Bytes int64
}

// Config says where the embedded Kafka listens, where it keeps its data and how much of it.
type Config struct {
	// Listen is the address of the broker; it is also what clients are told to connect to.
	Listen  string
	DataDir string
	// TopicBytes is the size limit of a topic.
	TopicBytes int64
	// Topics are filled in from the registry.
	Topics []TopicRule `koanf:"-"`
	// SegmentBytes is the size of one file: trimming frees whole files only.
	SegmentBytes int64
	// KeepInterval is how often sizes are checked and records that nobody needs are deleted.
	KeepInterval time.Duration
	// CanaryInterval is how often the disk is proved to take writes.
	CanaryInterval time.Duration
}

// DefaultConfig returns the settings of the single machine.
func DefaultConfig() Config {
	return Config{
		Listen:         "127.0.0.1:19092",
		TopicBytes:     256 << 20,
		SegmentBytes:   4 << 20,
		KeepInterval:   500 * time.Millisecond,
		CanaryInterval: time.Second,
	}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return errs.Wrap(err, errs.Invalid, "kafka_listen_invalid", fmt.Sprintf("embedded.kafka.listen is %q; give host:port", c.Listen))
	case host == "" || ip != nil && ip.IsUnspecified():
		return errs.New(errs.Invalid, "kafka_listen_wildcard",
			"embedded.kafka.listen must be one address that clients can connect to, not all of them")
	case c.DataDir == "":
		return errs.New(errs.Invalid, "kafka_data_dir_missing", "embedded.kafka.data_dir is empty; name a directory")
	case c.SegmentBytes < 1<<20 || c.TopicBytes < 2*c.SegmentBytes:
		return errs.New(errs.Invalid, "kafka_limits_invalid",
			"embedded.kafka.segment_bytes must be at least 1 MiB and topic_bytes at least twice that")
	case c.KeepInterval <= 0 || c.CanaryInterval <= 0:
		return errs.New(errs.Invalid, "kafka_intervals_invalid", "embedded.kafka.keep_interval and canary_interval must be positive")
	}
	for _, t := range c.Topics {
		if t.Name == "" || t.Bytes < 0 || t.Bytes > 0 && t.Bytes < 2*c.SegmentBytes {
			return errs.New(errs.Invalid, "kafka_topic_rule_invalid",
				fmt.Sprintf("The rule of topic %q needs a name and a limit of at least two segments", t.Name))
		}
	}
	return nil
}

func (c Config) rule(topic string) TopicRule {
	for _, t := range c.Topics {
		if t.Name == topic {
			if t.Bytes == 0 {
				t.Bytes = c.TopicBytes
			}
			return t
		}
	}
	return TopicRule{Name: topic, Bytes: c.TopicBytes}
}
