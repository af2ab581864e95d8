package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// The yardsticks as subcommands of this binary.
const (
	serveBroker  = "serve-broker"
	serveMinimal = "serve-minimal"
	serveBare    = "serve-bare"
)

// The topics that take what the minimal handlers and the plain producer write. The broker syncs each partition's file, so
// one partition is cheaper for it, and no order among consumers is: both are measured and the faster one counts.
const (
	spreadTopic = "bench.spread" // as many partitions as the collector's topic
	singleTopic = "bench.single" // one
)

// serve runs a yardstick until ctx ends.
func serve(ctx context.Context, what string, args []string) error {
	flags := flag.NewFlagSet(what, flag.ContinueOnError)
	listen := flags.String("listen", "", "address")
	broker := flags.String("broker", "", "Kafka of the minimal handler")
	topic := flags.String("topic", "", "topic of the minimal handler")
	dir := flags.String("dir", "", "data of the broker")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch what {
	case serveBroker:
		return runBroker(ctx, *listen, *dir)
	case serveMinimal:
		client, err := newProducer(*broker, *topic)
		if err != nil {
			return err
		}
		defer client.Close()
		return serveHTTP(ctx, *listen, func(ctx context.Context, records []*kgo.Record) error {
			return client.ProduceSync(ctx, records...).FirstErr()
		})
	default:
		return serveHTTP(ctx, *listen, func(context.Context, []*kgo.Record) error { return nil })
	}
}

// runBroker is the embedded Kafka as bin/mekong runs it. Topics that nothing consumes here drop their oldest records.
func runBroker(ctx context.Context, listen, dir string) error {
	cfg := kafka.DefaultConfig()
	cfg.Listen, cfg.DataDir = listen, dir
	for _, name := range []string{spreadTopic, singleTopic, stream.CollectorEvents, stream.CollectorRejected} {
		cfg.Topics = append(cfg.Topics, kafka.TopicRule{Name: name, DropOldest: true})
	}
	broker, err := kafka.New(cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return broker.Runner().Run(ctx, func() {})
}

// newProducer is franz-go as one uses it without any thought of ours: acks=all, no linger.
func newProducer(broker, topic string) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0))
}

// event is what a minimal collector has to know of an event.
type event struct {
	Type        string          `json:"type"`
	MessageID   string          `json:"messageId"`
	AnonymousID string          `json:"anonymousId"`
	UserID      string          `json:"userId"`
	Event       string          `json:"event"`
	Timestamp   time.Time       `json:"timestamp"`
	Properties  json.RawMessage `json:"properties"`
	Context     json.RawMessage `json:"context"`
}

// serveHTTP is the minimal handler: decode with encoding/json, store, answer.
func serveHTTP(ctx context.Context, listen string, store func(context.Context, []*kgo.Record) error) error {
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"success":true}`)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/track", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			var record *kgo.Record
			if record, err = decodeEvent(body); err == nil {
				err = store(r.Context(), []*kgo.Record{record})
			}
		}
		answer(w, err)
	})
	mux.HandleFunc("POST /v1/batch", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			var records []*kgo.Record
			if records, err = decodeBatch(body); err == nil {
				err = store(r.Context(), records)
			}
		}
		answer(w, err)
	})
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func decodeEvent(raw []byte) (*kgo.Record, error) {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	return &kgo.Record{Key: []byte(e.AnonymousID), Value: raw}, nil
}

func decodeBatch(body []byte) ([]*kgo.Record, error) {
	var batch struct {
		Batch []json.RawMessage `json:"batch"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, err
	}
	records := make([]*kgo.Record, len(batch.Batch))
	for i, raw := range batch.Batch {
		var err error
		if records[i], err = decodeEvent(raw); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// yardsticks are the running processes of the comparison.
type yardsticks struct {
	broker, spread, single, bare                             *process
	brokerAddress, spreadAddress, singleAddress, bareAddress string
}

func (y *yardsticks) stop() {
	for _, p := range []*process{y.spread, y.single, y.bare, y.broker} {
		if p != nil {
			_ = p.stop()
		}
	}
}

func startYardsticks(ctx context.Context, b *bench) (*yardsticks, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startYardsticksWith(ctx, b, self)
}

// startYardsticksWith starts them from the binary of this command.
func startYardsticksWith(ctx context.Context, b *bench, self string) (_ *yardsticks, err error) {
	y := &yardsticks{}
	launch := func(what string, args ...string) (*process, string, error) {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, "", err
		}
		p, err := start(ctx, b.dir, what, self, append([]string{what, "--listen", address}, args...), nil)
		if err != nil {
			return nil, "", err
		}
		_, err = p.await(ctx, listening(address))
		return p, address, err
	}
	data := b.dir + "/broker"
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	if y.broker, y.brokerAddress, err = launch(serveBroker, "--dir", data); err != nil {
		return nil, err
	}
	if err := createTopics(ctx, y.brokerAddress); err != nil {
		y.stop()
		return nil, err
	}
	if y.spread, y.spreadAddress, err = launch(serveMinimal, "--broker", y.brokerAddress, "--topic", spreadTopic); err != nil {
		y.stop()
		return nil, err
	}
	if y.single, y.singleAddress, err = launch(serveMinimal, "--broker", y.brokerAddress, "--topic", singleTopic); err != nil {
		y.stop()
		return nil, err
	}
	if y.bare, y.bareAddress, err = launch(serveBare); err != nil {
		y.stop()
		return nil, err
	}
	return y, nil
}

func createTopics(ctx context.Context, broker string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return err
	}
	defer client.Close()
	for topic, partitions := range map[string]int32{spreadTopic: stream.EventPartitions, singleTopic: 1} {
		if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return err
		}
	}
	return nil
}

// plainProducer is conns goroutines that produce n records each, wait for the acknowledgement and go on.
func plainProducer(ctx context.Context, src *source, broker string, events, conns int, length time.Duration) (*outcome, error) {
	client, err := newProducer(broker, spreadTopic)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	template := newTemplate("", "", 1)
	begin := time.Now()
	return inParallel(conns, begin, func(part *outcome) error {
		r := template.copy(src)
		for {
			now := time.Now()
			if now.Sub(begin) >= length {
				return nil
			}
			first := src.next.Add(uint64(events)) - uint64(events)
			records := make([]*kgo.Record, events)
			for i := range records {
				r.fill(first+uint64(i), now)
				device := r.slots[0].device
				records[i] = &kgo.Record{Key: bytes.Clone(r.request[device : device+deviceWidth]), Value: bytes.Clone(r.request[r.body:])}
			}
			if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
				return err
			}
			part.latency.record(time.Since(now))
			part.events += events
		}
	})
}
