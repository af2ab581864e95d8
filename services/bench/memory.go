package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/embedded/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const (
	idleWait  = 30 * time.Second
	idleBar   = 900 // MB
	warmBar   = 20 * time.Second
	crashBar  = 30 * time.Second
	fillLimit = 10 * time.Minute
	// catchUpLimit is for readiness after a crash, which waits until what lay in the topics is stored.
	catchUpLimit = 10 * time.Minute
	// fillBytes is the size of the events that fill the topics: larger than usual, so that it takes a minute and not ten.
	fillBytes = 2048
	// fullShare of its limit makes a topic a full one.
	fullShare = 0.9
)

func roles() []string { return []string{"mekong", "clickhouse", "postgres"} }

// memoryBench measures what an idle system holds and how long it takes to start: empty, with data, and after a kill
// with full topics.
func memoryBench(ctx context.Context, b *bench) error {
	s, err := newSystem(ctx, b, "memory", "")
	if err != nil {
		return err
	}
	defer func() { b.warn(s.stop()) }()
	first, err := s.up(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	add := func(what string, took time.Duration, others noise, memory string) {
		rows = append(rows, []string{what, fmt.Sprintf("%.1f", took.Seconds()), memory, fmt.Sprintf("%.1f", loadAverage()), percent(others.share())})
		b.logf("  %-40s %5.1f s  %s", what, took.Seconds(), memory)
	}
	others := listen()
	idle, err := b.idle(ctx, s)
	if err != nil {
		return err
	}
	add("first start, new data directory", first, others, idle.String())
	b.report.add(line{what: "idle memory of everything", value: idle.String(), bar: "≤ 900 MB", verdict: atMost(idle.total, idleBar), noise: others.share()})
	if err := b.warmStarts(ctx, s, add); err != nil {
		return err
	}
	if err := b.crashStart(ctx, s, add); err != nil {
		return err
	}
	b.report.table("Start and memory of the whole system (`mekong up`)", "start|ready after s|memory 30 s later|load|others", rows)
	return nil
}

// footprint is the memory of the processes of a system in MB.
type footprint struct {
	total  float64
	byName map[string]float64
}

func (f footprint) String() string {
	var parts []string
	for _, name := range roles() {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, f.byName[name]))
	}
	return fmt.Sprintf("%.0f MB (%s)", f.total, strings.Join(parts, ", "))
}

func (b *bench) idle(ctx context.Context, s *system) (footprint, error) {
	if err := pause(ctx, idleWait); err != nil {
		return footprint{}, err
	}
	total, byName := pss(s.running.pid())
	return footprint{total, byName}, nil
}

func (b *bench) warmStarts(ctx context.Context, s *system, add func(string, time.Duration, noise, string)) error {
	var all []time.Duration
	worst := 0.0
	for i := range b.rounds {
		if err := s.stop(); err != nil {
			return err
		}
		others := listen()
		took, err := s.up(ctx)
		if err != nil {
			return err
		}
		worst = max(worst, others.share())
		all = append(all, took)
		add(fmt.Sprintf("warm start %d", i+1), took, others, "–")
	}
	took := median(all)
	b.report.add(line{what: "warm start to ready", value: fmt.Sprintf("%.1f s", took.Seconds()), bar: "≤ 20 s", verdict: atMost(took.Seconds(), warmBar.Seconds()), noise: worst})
	return nil
}

// crashStart fills the topics with nobody behind identity who would empty them, kills the process and starts everything.
func (b *bench) crashStart(ctx context.Context, s *system, add func(string, time.Duration, noise, string)) error {
	if err := s.stop(); err != nil {
		return err
	}
	nobody, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	if err := s.run(ctx, "kafka,postgres,admin,identity,collector", "MEKONG_PEERS__WAREHOUSE="+nobody); err != nil {
		return err
	}
	full, err := b.fill(ctx, s)
	if err != nil {
		return err
	}
	s.kill()
	others := listen()
	if err := s.launch(ctx, "up", "--demo"); err != nil {
		return err
	}
	open, err := s.running.await(ctx, listening(s.http))
	if err != nil {
		return err
	}
	b.logf("  the door is open %.1f s after the start", open.Seconds())
	rest, err := s.running.awaitWithin(ctx, catchUpLimit, answersReady(s.http))
	if err != nil {
		return err
	}
	took, share, peak := open+rest, others.share(), peakMemory(s.running.pid())
	after, err := b.idle(ctx, s)
	if err != nil {
		return err
	}
	add("after kill -9 with "+full, took, others, after.String())
	b.report.add(line{
		what: "start after kill -9 with full topics", bar: "≤ 30 s", verdict: atMost(took.Seconds(), crashBar.Seconds()), noise: share,
		value: fmt.Sprintf("%.1f s until all is caught up, the door is open after %.1f s (%s); main process at most %.0f MB", took.Seconds(), open.Seconds(), full, peak),
	})
	return nil
}

// peakMemory is the most that a process ever had resident, in MB.
func peakMemory(pid int) float64 {
	kb, _ := strconv.Atoi(strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), " kB"))
	return float64(kb) * 1024 / 1e6
}

// fill sends until both topics of the street are full or the door takes no more, and says how far it came.
func (b *bench) fill(ctx context.Context, s *system) (string, error) {
	t := newSizedTemplate(s.http, demoKey, 100, fillBytes)
	limit := float64(kafka.DefaultConfig().TopicBytes)
	events := 0
	for begin := time.Now(); ; {
		o, err := closedLoop(ctx, s.http, t, b.source, 4, time.Second)
		if err != nil {
			return "", err
		}
		events += o.events
		sizes, err := topicBytes(ctx, s.kafka)
		if err != nil {
			return "", err
		}
		in, out := float64(sizes[stream.CollectorEvents])/limit, float64(sizes[stream.ResolvedEvents])/limit
		if in >= fullShare && out >= fullShare || o.refused > 0 && o.events == 0 || time.Since(begin) > fillLimit {
			return fmt.Sprintf("%s events, collector.events %s full, resolved-events %s full", whole(float64(events)), percent(in), percent(out)), nil
		}
		b.logf("  filling: %d events, collector.events %s, resolved-events %s full, refused %d", events, percent(in), percent(out), o.refused)
	}
}

// topicBytes returns the size on disk by topic.
func topicBytes(ctx context.Context, broker string) (map[string]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	dirs, err := kadm.NewClient(client).DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, broker := range dirs {
		broker.EachPartition(func(p kadm.DescribedLogDirPartition) { sizes[p.Topic] += p.Size })
	}
	return sizes, nil
}
