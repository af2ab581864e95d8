package kafka_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// Opening reads the whole log: the memory for it must go back to the system, and its peak is bounded by the limits of
// the topics.
func TestMemoryAtReopen(t *testing.T) {
	if testing.Short() {
		t.Skip("writing a large log is left out by -short")
	}
	const topics, megabytes = 2, 96
	p := serve(t, t.TempDir(), freeAddr(t))
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers = []string{p.addr}
	publisher, err := kafka.NewPublisher(t.Context(), kcfg, kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(t, err)
	value := make([]byte, 1<<10)
	for i := range value {
		value[i] = byte(rand.Uint32()) //nolint:gosec // filler
	}
	for i := range topics {
		topic := fmt.Sprintf("filled%d", i)
		require.NoError(t, kafka.EnsureTopics(t.Context(), publisher.Client(), []kafka.TopicSpec{{Name: topic, Partitions: 4}}))
		for range megabytes {
			records := make([]*kgo.Record, 1<<10)
			for j := range records {
				records[j] = &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(j)), Value: value}
			}
			_, err := publisher.Publish(t.Context(), records...)
			require.NoError(t, err)
		}
	}
	closeSoon(t, publisher)
	before := status(t, p.cmd.Process.Pid, "VmRSS")
	p.kill(t)
	started := time.Now()
	p.start(t)
	took := time.Since(started)
	after, peak := status(t, p.cmd.Process.Pid, "VmRSS"), status(t, p.cmd.Process.Pid, "VmHWM")
	t.Logf("log %d MB: %d MB serving, reopened after kill in %s, %d MB then, %d MB at the peak", topics*megabytes, before, took.Round(time.Millisecond), after, peak)
	require.Less(t, after, 100+topics*megabytes/4, "the memory of reading the log is given back")
	require.Less(t, peak, 150+topics*megabytes*5/2, "the peak is bounded by the size of the log")
}

// status returns a line of /proc/<pid>/status in megabytes.
func status(t *testing.T, pid int, name string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return kb >> 10
		}
	}
	require.Fail(t, "no such line", name)
	return 0
}
