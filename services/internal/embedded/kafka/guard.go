package kafka

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// guard stands between kfake and its clients: it takes kfake's log lines, which are the only place where a failed write
// shows, and closes the door at the first one.
type guard struct {
	log    *slog.Logger
	broken atomic.Bool
	once   sync.Once
	failed chan struct{}
	err    error // set before failed is closed
}

func newGuard(log *slog.Logger) *guard { return &guard{log: log, failed: make(chan struct{})} }

// Logf implements kfake.Logger. kfake calls it on its event loop, before it answers the request at hand, so that no
// later request can see an acknowledgement of what was not written.
func (g *guard) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn {
		return
	}
	text := fmt.Sprintf(format, args...)
	for _, prefix := range []string{"persist", "rebuildSegments", "save session state", "compact"} {
		if strings.HasPrefix(format, prefix) {
			g.fail(errs.New(errs.Unavailable, "kafka_write_failed",
				"The embedded Kafka could not write to its disk and stops before it loses records; make room or replace the disk: "+text))
			break
		}
	}
	g.log.Warn("embedded kafka warns", "detail", text)
}

// fail closes the door for good.
func (g *guard) fail(err error) {
	g.broken.Store(true)
	g.once.Do(func() {
		g.err = err
		close(g.failed)
	})
}

// failure returns the first failure, nil while all writes succeeded.
func (g *guard) failure() error {
	select {
	case <-g.failed:
		return g.err
	default:
		return nil
	}
}

// watch makes cluster refuse records and commits once the guard has failed, and keeps it from ever deleting records by
// itself.
func (g *guard) watch(cluster *kfake.Cluster) {
	cluster.Fault(kfake.Fault{
		Keys:  []kmsg.Key{kmsg.Produce, kmsg.OffsetCommit, kmsg.TxnOffsetCommit},
		Err:   kerr.PolicyViolation,
		Count: -1,
		When:  func(kmsg.Request) bool { return g.broken.Load() },
	})
	for _, key := range []kmsg.Key{kmsg.CreateTopics, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs} {
		cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			dropRetention(req)
			return nil, nil, false
		})
	}
}

// deletes are the settings by which kfake would delete records itself.
func deletes(name string) bool {
	switch name {
	case "cleanup.policy", "retention.ms", "retention.bytes", "delete.retention.ms", "segment.bytes", "segment.ms",
		"log.retention.ms", "log.retention.bytes", "log.retention.minutes", "log.retention.hours", "log.cleaner.backoff.ms":
		return true
	}
	return false
}

// dropRetention takes those settings out of req. Merely setting retention.ms, even to -1, would start kfake's cleaner
// for all topics.
func dropRetention(req kmsg.Request) {
	switch r := req.(type) {
	case *kmsg.CreateTopicsRequest:
		for i := range r.Topics {
			r.Topics[i].Configs = keep(r.Topics[i].Configs, func(c kmsg.CreateTopicsRequestTopicConfig) string { return c.Name })
		}
	case *kmsg.AlterConfigsRequest:
		for i := range r.Resources {
			r.Resources[i].Configs = keep(r.Resources[i].Configs, func(c kmsg.AlterConfigsRequestResourceConfig) string { return c.Name })
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range r.Resources {
			r.Resources[i].Configs = keep(r.Resources[i].Configs, func(c kmsg.IncrementalAlterConfigsRequestResourceConfig) string { return c.Name })
		}
	}
}

func keep[T any](configs []T, name func(T) string) []T {
	kept := configs[:0]
	for _, c := range configs {
		if !deletes(name(c)) {
			kept = append(kept, c)
		}
	}
	return kept
}
