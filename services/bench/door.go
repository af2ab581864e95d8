package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// connections is how many keep-alive connections every door test uses.
const connections = 64

// side is one of those that take turns.
type side struct {
	name   string
	load   func(ctx context.Context, length time.Duration) (*outcome, error)
	server int // process id, 0 when there is none
	// settle waits until what was taken is where it belongs, and returns how long that took.
	settle func(ctx context.Context) (time.Duration, error)
}

// turn is what one side did in one round.
type turn struct {
	*outcome
	serverMS, brokerMS float64 // CPU per 1,000 events
	settled            time.Duration
	load, noise        float64
}

// sustained is the rate at which events were answered and forwarded.
func (t turn) sustained() float64 { return float64(t.events) / (t.elapsed + t.settled).Seconds() }

// doorBench compares the door with its yardsticks, first with single events, then with batches.
func doorBench(ctx context.Context, b *bench) error {
	y, err := startYardsticks(ctx, b)
	if err != nil {
		return err
	}
	defer y.stop()
	s, err := newSystem(ctx, b, "door", y.brokerAddress)
	if err != nil {
		return err
	}
	// Only the door: what comes after it would take CPU that the yardstick has for itself.
	if err := s.run(ctx, "admin,collector,postgres"); err != nil {
		return err
	}
	defer func() { b.warn(s.stop()) }()
	for _, events := range []int{1, 100} {
		if err := doorRounds(ctx, b, y, s, events); err != nil {
			return err
		}
	}
	return nil
}

func doorRounds(ctx context.Context, b *bench, y *yardsticks, s *system, events int) error {
	door := &doorSide{bench: b, system: s, broker: y.brokerAddress, template: newTemplate(s.http, demoKey, events)}
	over := func(address string) func(context.Context, time.Duration) (*outcome, error) {
		t := newTemplate(address, demoKey, events)
		return func(ctx context.Context, length time.Duration) (*outcome, error) {
			return closedLoop(ctx, address, t, b.source, connections, length)
		}
	}
	sides := []side{
		{name: "door", load: door.load, server: s.running.pid(), settle: door.settle},
		{name: "minimal handler", load: over(y.spreadAddress), server: y.spread.pid()},
		{name: "minimal, 1 partition", load: over(y.singleAddress), server: y.single.pid()},
		{name: "bare net/http", load: over(y.bareAddress), server: y.bare.pid()},
		{name: "plain producer", load: func(ctx context.Context, length time.Duration) (*outcome, error) {
			return plainProducer(ctx, b.source, y.brokerAddress, events, connections, length)
		}},
	}
	turns, err := b.takeTurns(ctx, sides, y.broker.pid())
	if err != nil {
		return err
	}
	b.reportDoor(events, sides, turns)
	return nil
}

// takeTurns lets all sides work one after another, round by round, and returns the turns of the quietest rounds.
func (b *bench) takeTurns(ctx context.Context, sides []side, broker int) ([][]turn, error) {
	for _, s := range sides { // warm caches, connections and topics
		if _, err := b.takeTurn(ctx, s, broker, time.Second); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var rounds [][]turn
	for quiet := 0; quiet < b.rounds && len(rounds) < b.rounds+b.extraRounds; {
		var round []turn
		for _, s := range sides {
			t, err := b.takeTurn(ctx, s, broker, b.length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			round = append(round, t)
			b.logf("  %-20s %8.0f/s  p50 %s  p99 %s  cpu %.0f ms/1000  settled %.1f s  load %.1f  others %.0f %%  refused %d %s",
				s.name, t.perSecond(), ms(t.latency.quantile(0.5)), ms(t.latency.quantile(0.99)), t.serverMS, t.settled.Seconds(), t.load, 100*t.noise, t.refused, t.firstRefusal)
		}
		rounds = append(rounds, round)
		if noisiest(round) <= quietShare {
			quiet++
		}
	}
	return quietest(rounds, b.rounds), nil
}

func (b *bench) takeTurn(ctx context.Context, s side, broker int, length time.Duration) (turn, error) {
	// What the last side left behind must not be paid by this one.
	runtime.GC()
	t := turn{load: loadAverage()}
	others := listen()
	server, brokerCPU := cpuTime(s.server), cpuTime(broker)
	var err error
	if t.outcome, err = s.load(ctx, length); err != nil {
		return t, err
	}
	t.noise = others.share()
	if s.settle != nil {
		if t.settled, err = s.settle(ctx); err != nil {
			return t, err
		}
	}
	if t.events > 0 {
		perThousand := 1000 / float64(t.events)
		t.serverMS = float64((cpuTime(s.server) - server).Milliseconds()) * perThousand
		t.brokerMS = float64((cpuTime(broker) - brokerCPU).Milliseconds()) * perThousand
	}
	return t, nil
}

// doorSide sends to the door and knows when everything is in Kafka.
type doorSide struct {
	bench    *bench
	system   *system
	broker   string
	template *template
	taken    int64 // what Kafka must hold when everything is forwarded
}

func (d *doorSide) load(ctx context.Context, length time.Duration) (*outcome, error) {
	before, err := records(ctx, d.broker, stream.CollectorEvents)
	if err != nil {
		return nil, err
	}
	profiled := d.bench.profile(ctx, d.system, fmt.Sprintf("door-%d", len(d.template.slots)), length)
	defer profiled()
	o, err := closedLoop(ctx, d.system.http, d.template, d.bench.source, connections, length)
	if o != nil {
		d.taken = before + int64(o.events)
	}
	return o, err
}

// settle waits until the spool is forwarded: an answer that Kafka never sees would be no speed.
func (d *doorSide) settle(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	for {
		n, err := records(ctx, d.broker, stream.CollectorEvents)
		if err != nil {
			return 0, err
		}
		if n >= d.taken {
			return time.Since(begin), nil
		}
		if time.Since(begin) > time.Minute {
			return 0, fmt.Errorf("the door answered for %d events that are not in Kafka after a minute", d.taken-n)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// records is how many records were ever written to a topic.
func records(ctx context.Context, broker, topic string) (int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += max(o.Offset, 0) })
	return sum, ends.Error()
}
