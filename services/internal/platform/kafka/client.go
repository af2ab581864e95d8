package kafka

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kotel"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	dialTimeout = 5 * time.Second
	// requestOverhead is what a request may take beyond its own timeout before its connection is given up.
	requestOverhead = 10 * time.Second
	// metadataMinAge is how soon the client may ask again who leads a partition.
	metadataMinAge = 250 * time.Millisecond
)

// NewClient returns a client with our defaults: acks from all replicas, idempotent producing, our partitioner, bounded
// buffers, trace context in record headers. It does not connect yet. opts come last and win.
func NewClient(cfg Config, opts ...kgo.Opt) (*kgo.Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	base := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(newPartitioner()),
		kgo.MaxBufferedRecords(cfg.MaxBufferedRecords),
		kgo.MaxBufferedBytes(cfg.MaxBufferedBytes),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.ProducerLinger(0),
		kgo.RequestTimeoutOverhead(requestOverhead),
		kgo.RetryBackoffFn(retryBackoff),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.WithHooks(tracingHooks(cfg)...),
		kgo.WithLogger(clientLogger{slog.Default().With("component", "kafka.client")}),
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	if cfg.TLS {
		base = append(base, kgo.Dialer((&tls.Dialer{NetDialer: dialer, Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext))
	} else {
		base = append(base, kgo.Dialer(dialer.DialContext))
	}
	switch cfg.SASLMechanism {
	case SASLPlain:
		base = append(base, kgo.SASL(plain.Auth{User: cfg.SASLUser, Pass: cfg.SASLPassword.Reveal()}.AsMechanism()))
	case SASLScramSHA256:
		base = append(base, kgo.SASL(scram.Auth{User: cfg.SASLUser, Pass: cfg.SASLPassword.Reveal()}.AsSha256Mechanism()))
	case SASLScramSHA512:
		base = append(base, kgo.SASL(scram.Auth{User: cfg.SASLUser, Pass: cfg.SASLPassword.Reveal()}.AsSha512Mechanism()))
	}
	client, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "kafka_config_invalid", "The Kafka settings do not fit together")
	}
	return client, nil
}

// retryBackoff keeps retries quick: the embedded broker comes back within seconds, and callers have deadlines.
func retryBackoff(tries int) time.Duration {
	return min(50*time.Millisecond<<min(tries, 6), 2*time.Second)
}

var errKeyHidden = errors.New("record keys hold user ids and stay out of traces")

// producerTracer injects trace context when records are produced. Spans per fetched record would cost more than handling
// it: the consumer makes one per batch.
//
// A record that carries a trace already, from an earlier hop, stays in it: as a span of that trace when it is sampled, as
// it is when it is not.
type producerTracer struct{ tracer *kotel.Tracer }

// OnProduceRecordBuffered implements kgo.HookProduceRecordBuffered.
func (p producerTracer) OnProduceRecordBuffered(r *kgo.Record) {
	carried, sampled := carriedTrace(r)
	if carried && !sampled {
		return
	}
	if carried {
		r.Context = RecordContext(r.Context, r)
	}
	p.tracer.OnProduceRecordBuffered(r)
}

// OnProduceRecordUnbuffered implements kgo.HookProduceRecordUnbuffered.
func (p producerTracer) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	if carried, sampled := carriedTrace(r); carried && !sampled {
		return
	}
	p.tracer.OnProduceRecordUnbuffered(r, err)
}

// traceparentLen is the length of a W3C traceparent of version 00; its last digit holds the sampled flag.
const traceparentLen = 55

func carriedTrace(r *kgo.Record) (carried, sampled bool) {
	for i := range r.Headers {
		if r.Headers[i].Key == HeaderTraceparent {
			value := r.Headers[i].Value
			return len(value) == traceparentLen, len(value) == traceparentLen && value[traceparentLen-1]&1 == 1
		}
	}
	return false, false
}

func tracingHooks(cfg Config) []kgo.Hook {
	tracer := kotel.NewTracer(kotel.ClientID(cfg.ClientID), kotel.KeyFormatter(func(*kgo.Record) (string, error) {
		return "", errKeyHidden
	}))
	return append(kotel.NewKotel(kotel.WithMeter(kotel.NewMeter())).Hooks(), producerTracer{tracer})
}

// clientLogger passes the library's warnings on; what it calls info is one line per flush and rebalance.
type clientLogger struct{ log *slog.Logger }

func (clientLogger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level == kgo.LogLevelError {
		l.log.Warn("kafka client reports an error", append([]any{"detail", msg}, keyvals...)...)
		return
	}
	l.log.Debug("kafka client warns", append([]any{"detail", msg}, keyvals...)...)
}
