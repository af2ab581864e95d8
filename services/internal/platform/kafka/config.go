package kafka

import (
	"fmt"
	"net"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// SASL mechanisms that Config accepts.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
)

// Config says how to reach Kafka.
type Config struct {
	// Brokers are host:port addresses to start from; empty means the embedded broker, which the runtime fills in.
	Brokers []string
	// ClientID is shown in the broker's logs and metrics.
	ClientID string
	// TLS switches on TLS with the system's certificate authorities.
	TLS bool
	// SASLMechanism is empty (no authentication), PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	SASLMechanism string
	// SASLUser and SASLPassword are needed with a mechanism.
	SASLUser     string
	SASLPassword config.Secret
	// MaxBufferedRecords and MaxBufferedBytes bound what one publisher holds in memory.
	MaxBufferedRecords int
	MaxBufferedBytes   int
	// MaxRecordBytes bounds one record with key and headers; larger ones are refused as Invalid.
	MaxRecordBytes int
	// PublishTimeout ends calls of Publish whose context has no earlier deadline.
	PublishTimeout time.Duration
}

// DefaultConfig returns the settings for a broker on this machine.
func DefaultConfig() Config {
	return Config{
		ClientID:           "mekong",
		MaxBufferedRecords: 50_000,
		MaxBufferedBytes:   64 << 20,
		MaxRecordBytes:     900 << 10,
		PublishTimeout:     10 * time.Second,
	}
}

// maxBatchBytes is the broker's own default limit of one batch (message.max.bytes).
const maxBatchBytes = 1_000_012

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errs.New(errs.Invalid, "kafka_brokers_missing", "kafka.brokers is empty; give at least one host:port")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return errs.Wrap(err, errs.Invalid, "kafka_broker_invalid", fmt.Sprintf("kafka.brokers holds %q, which is not host:port", b))
		}
	}
	switch c.SASLMechanism {
	case "":
	case SASLPlain, SASLScramSHA256, SASLScramSHA512:
		if c.SASLUser == "" || c.SASLPassword == "" {
			return errs.New(errs.Invalid, "kafka_sasl_incomplete", "kafka.sasl_mechanism is set; set kafka.sasl_user and kafka.sasl_password too")
		}
	default:
		return errs.New(errs.Invalid, "kafka_sasl_unknown", "kafka.sasl_mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	}
	switch {
	case c.MaxBufferedRecords <= 0 || c.MaxBufferedBytes <= 0:
		return errs.New(errs.Invalid, "kafka_buffer_invalid", "kafka.max_buffered_records and kafka.max_buffered_bytes must be positive")
	case c.MaxRecordBytes <= 0 || c.MaxRecordBytes > maxBatchBytes-recordSlack:
		return errs.New(errs.Invalid, "kafka_record_limit_invalid",
			fmt.Sprintf("kafka.max_record_bytes must be between 1 and %d", maxBatchBytes-recordSlack))
	case c.PublishTimeout <= 0:
		return errs.New(errs.Invalid, "kafka_timeout_invalid", "kafka.publish_timeout must be positive")
	}
	return nil
}
