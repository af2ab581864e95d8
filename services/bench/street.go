package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	freshRate   = 5000 // events a second
	freshBatch  = 20
	freshLength = 30 * time.Second
	// every tenth batch marks one event: 25 marks a second.
	freshSample  = 10
	pollInterval = 50 * time.Millisecond
	arriveLimit  = 2 * time.Minute

	freshBar     = 1500 * time.Millisecond
	freshTailBar = 5 * time.Second
)

// streetBench looks at the whole system, everything embedded in one `mekong up`.
func streetBench(ctx context.Context, b *bench) error {
	s, err := newSystem(ctx, b, "street", "")
	if err != nil {
		return err
	}
	if _, err := s.up(ctx); err != nil {
		return err
	}
	defer func() { b.warn(s.stop()) }()
	dsn, err := s.address(ctx, "clickhouse")
	if err != nil {
		return err
	}
	ch, err := newQuerier(dsn)
	if err != nil {
		return err
	}
	if err := b.freshness(ctx, s, ch); err != nil {
		return err
	}
	return b.wholeSystem(ctx, s, ch)
}

// marks are the sampled events: when each was acknowledged and when it was seen.
type marks struct {
	mu    sync.Mutex
	acked map[string]time.Time
	seen  map[string]time.Time
}

func newMarks() *marks { return &marks{acked: map[string]time.Time{}, seen: map[string]time.Time{}} }

func (m *marks) acknowledge(id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked[id] = at
}

// poll notes which marked events ClickHouse shows, until ctx ends.
func (m *marks) poll(ctx context.Context, ch *querier) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ids, err := ch.query(ctx, "SELECT event_id FROM mekong.fact_events WHERE event_name = '"+sampleName+"'")
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		m.mu.Lock()
		for _, id := range ids {
			if _, known := m.seen[id]; !known {
				m.seen[id] = now
			}
		}
		m.mu.Unlock()
	}
}

// delays returns how long each marked event took from its acknowledgement to being seen, and how many were never seen.
func (m *marks) delays() (h histogram, missing int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range m.acked {
		if seen, ok := m.seen[id]; ok {
			h.record(seen.Sub(at))
		} else {
			missing++
		}
	}
	return h, missing
}

// freshness offers events at a constant rate and measures how long they take to fact_events.
func (b *bench) freshness(ctx context.Context, s *system, ch *querier) error {
	t := newTemplate(s.http, demoKey, freshBatch)
	load := offered{perSecond: freshRate, length: 5 * time.Second, conns: 32, sampleEvery: 1 << 30, sampled: func(string, time.Time) {}}
	if err := b.meetDevices(ctx, s, ch, t, load); err != nil {
		return err
	}
	m := newMarks()
	polling, stopPolling := context.WithCancel(ctx)
	polled := make(chan error, 1)
	go func() { polled <- m.poll(polling, ch) }()

	load.length, load.sampleEvery, load.sampled = freshLength, freshSample, m.acknowledge
	average, others, cpu := loadAverage(), listen(), treeCPU(s.running.pid())
	profiled := b.profile(ctx, s, "freshness", freshLength)
	o, err := openLoop(ctx, s.http, t, b.source, load)
	share := others.share()
	spent := cpuSince(s.running.pid(), cpu)
	profiled()
	if err == nil {
		err = ch.await(ctx, m)
	}
	stopPolling()
	if failed := <-polled; failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	h, missing := m.delays()
	if missing > 0 {
		return fmt.Errorf("%d of %d sampled events never came to fact_events", missing, missing+int(h.total))
	}
	b.reportFreshness(o, &h, spent, average, share)
	// The only look behind the doors: it tells whether the way to the insert or the insert itself takes the time.
	waited, err := ch.query(ctx, "SELECT toInt64(quantile(0.5)(dateDiff('millisecond', received_at, _inserted_at))) FROM mekong.events WHERE event_name = '"+sampleName+"'")
	if err != nil {
		return err
	}
	b.report.note("Of the p50, %s ms went by until the insert was announced.", strings.Join(waited, " "))
	b.logf("  of that until the insert was announced, p50: %s ms", strings.Join(waited, " "))
	return nil
}

// meetDevices sends every device once or more and waits until all is stored: what is measured afterwards is a shop whose
// visitors are known. How long the first meeting takes is a number of its own.
func (b *bench) meetDevices(ctx context.Context, s *system, ch *querier, t *template, load offered) error {
	begin, others := time.Now(), listen()
	o, err := openLoop(ctx, s.http, t, b.source, load)
	if err != nil {
		return err
	}
	if err := ch.awaitCount(ctx, o.events); err != nil {
		return err
	}
	took := time.Since(begin)
	b.logf("  %d events of %d new devices visible after %.1f s, others %s", o.events, devices, took.Seconds(), percent(others.share()))
	b.report.add(line{
		what: "new devices", noise: others.share(),
		value: fmt.Sprintf("%s events of %s new devices, all visible after %.1f s", whole(float64(o.events)), whole(devices), took.Seconds()),
	})
	return nil
}

func (b *bench) reportFreshness(o *outcome, h *histogram, spent map[string]time.Duration, average, share float64) {
	p50, p99 := h.quantile(0.5), h.quantile(0.99)
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	b.logf("  freshness p50 %s  p99 %s  cpu %s  load %.1f  others %s", seconds(p50), seconds(p99), cpuText(spent, o.events), average, percent(share))
	what := fmt.Sprintf("door → fact_events at %s/s", whole(freshRate))
	b.report.add(line{what: what + ", p50", value: seconds(p50), bar: "≤ 1.5 s", verdict: atMost(p50.Seconds(), freshBar.Seconds()), noise: share})
	b.report.add(line{what: what + ", p99", value: seconds(p99), bar: "≤ 5 s", verdict: atMost(p99.Seconds(), freshTailBar.Seconds()), noise: share})
	rows := [][]string{{
		whole(o.perSecond()), fmt.Sprint(o.refused), ms(o.latency.quantile(0.5)), ms(o.latency.quantile(0.99)), fmt.Sprint(h.total),
		seconds(p50), seconds(h.quantile(0.9)), seconds(p99), seconds(h.max), cpuText(spent, o.events), fmt.Sprintf("%.1f", average), percent(share),
	}}
	b.report.table(fmt.Sprintf("Freshness: %s events/s offered in batches of %d for %s, everything in one process", whole(freshRate), freshBatch, freshLength),
		"answered/s|refused|door p50|door p99|samples|p50|p90|p99|max|CPU ms per 1,000|load|others", rows)
	if o.refused > 0 {
		b.report.note("First refusal: %s", o.firstRefusal)
	}
}

// wholeSystem measures the door while everything behind it works too. Nothing is compared: it tells what one small
// machine takes when it does all of the work.
func (b *bench) wholeSystem(ctx context.Context, s *system, ch *querier) error {
	var rows [][]string
	for _, events := range []int{1, 100} {
		before, err := ch.count(ctx)
		if err != nil {
			return err
		}
		t := newTemplate(s.http, demoKey, events)
		average, others, cpu := loadAverage(), listen(), treeCPU(s.running.pid())
		profiled := b.profile(ctx, s, fmt.Sprintf("whole-%d", events), 2*b.length)
		o, err := closedLoop(ctx, s.http, t, b.source, connections, 2*b.length)
		profiled()
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := ch.awaitCount(ctx, before+o.events); err != nil {
			return err
		}
		behind := time.Since(begin)
		share, spent := others.share(), cpuSince(s.running.pid(), cpu)
		through := float64(o.events) / (o.elapsed + behind).Seconds()
		rows = append(rows, []string{
			fmt.Sprint(events), whole(o.perSecond()), ms(o.latency.quantile(0.5)), ms(o.latency.quantile(0.99)), fmt.Sprint(o.refused),
			fmt.Sprintf("%.1f", behind.Seconds()), whole(through), cpuText(spent, o.events), fmt.Sprintf("%.1f", average), percent(share),
		})
		b.logf("  whole system, %d a request: %.0f/s answered, %.0f/s through, others %s", events, o.perSecond(), through, percent(share))
		b.report.add(line{
			what:  fmt.Sprintf("whole system, %d event(s) a request", events),
			value: fmt.Sprintf("%s/s answered, %s/s through to fact_events; CPU ms per 1,000: %s", whole(o.perSecond()), whole(through), cpuText(spent, o.events)), noise: share,
		})
	}
	b.report.table(fmt.Sprintf("The whole system in one process, %d connections, closed loop, %s", connections, 2*b.length),
		"events a request|answered/s|p50|p99|refused|all visible after s|through/s|CPU ms per 1,000|load|others", rows)
	return nil
}

// treeCPU returns the CPU time of a process and its descendants by role.
func treeCPU(pid int) map[string]time.Duration {
	sum := map[string]time.Duration{}
	for _, p := range tree(pid) {
		if _, cpu, ended, err := stat(p); err == nil {
			sum[role(p)] += cpu + ended
		}
	}
	return sum
}

func cpuSince(pid int, before map[string]time.Duration) map[string]time.Duration {
	now := treeCPU(pid)
	for name := range now {
		now[name] -= before[name]
	}
	return now
}

func cpuText(spent map[string]time.Duration, events int) string {
	var parts []string
	for _, name := range roles() {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, float64(spent[name].Milliseconds())*1000/float64(max(events, 1))))
	}
	return strings.Join(parts, ", ")
}

// querier asks ClickHouse over HTTP, as any client may.
type querier struct {
	target string
	user   *url.Userinfo
	client *http.Client
}

func newQuerier(dsn string) (*querier, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("address of ClickHouse: %w", err)
	}
	return &querier{target: "http://" + u.Host + "/?default_format=TabSeparated", user: u.User, client: &http.Client{Timeout: time.Minute}}, nil
}

func (q *querier) query(ctx context.Context, sql string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.target, strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	password, _ := q.user.Password()
	req.SetBasicAuth(q.user.Username(), password)
	resp, err := q.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ClickHouse answered %d: %s", resp.StatusCode, data)
	}
	return strings.Fields(string(data)), nil
}

func (q *querier) count(ctx context.Context) (int, error) {
	fields, err := q.query(ctx, "SELECT count() FROM mekong.fact_events")
	if err != nil {
		return 0, err
	}
	if len(fields) != 1 {
		return 0, fmt.Errorf("count() answered %q", fields)
	}
	return strconv.Atoi(fields[0])
}

// awaitCount waits until fact_events has n rows; more would be a fault.
func (q *querier) awaitCount(ctx context.Context, n int) error {
	last, grown := 0, time.Now()
	for {
		found, err := q.count(ctx)
		if err != nil {
			return err
		}
		if found > last {
			last, grown = found, time.Now()
		}
		switch {
		case found == n:
			return nil
		case found > n:
			return fmt.Errorf("fact_events holds %d events, %d were acknowledged", found, n)
		case time.Since(grown) > arriveLimit:
			return fmt.Errorf("fact_events stays at %d events, %d were acknowledged", found, n)
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// await waits until every marked event was seen.
func (q *querier) await(ctx context.Context, m *marks) error {
	for begin := time.Now(); time.Since(begin) < arriveLimit; {
		if _, missing := m.delays(); missing == 0 {
			return nil
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
	return nil
}
