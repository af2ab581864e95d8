package main

import (
	"fmt"
	"time"
)

const (
	singleBar = 1.2
	batchBar  = 1.0
	// peerSingles is what RudderStack's gateway takes on two such cores, one event a request; three times that is the aim.
	peerSingles = 3800
)

// middle are one side's medians over the rounds.
type middle struct {
	perSecond, sustained float64
	serverMS, brokerMS   float64
	p50, p99             time.Duration
	noise                float64
	refused              int
}

func medians(turns [][]turn, side int) middle {
	var m middle
	var rate, sustained, server, broker []float64
	var p50, p99 []time.Duration
	for _, round := range turns {
		t := round[side]
		rate, server, broker = append(rate, t.perSecond()), append(server, t.serverMS), append(broker, t.brokerMS)
		p50, p99 = append(p50, t.latency.quantile(0.5)), append(p99, t.latency.quantile(0.99))
		sustained = append(sustained, t.sustained())
		m.noise = max(m.noise, t.noise)
		m.refused += t.refused
	}
	m.perSecond, m.serverMS, m.brokerMS = median(rate), median(server), median(broker)
	m.p50, m.p99, m.sustained = median(p50), median(p99), median(sustained)
	return m
}

// ratio is the median of the rounds' ratios of two sides: both sides of one round saw the same machine.
func ratio(turns [][]turn, a, b int) float64 {
	var all []float64
	for _, round := range turns {
		all = append(all, round[a].perSecond()/round[b].perSecond())
	}
	return median(all)
}

// faster returns which of the two minimal handlers, sides 1 and 2, the door has to beat.
func faster(turns [][]turn) int {
	if medians(turns, 2).perSecond > medians(turns, 1).perSecond {
		return 2
	}
	return 1
}

func (b *bench) reportDoor(events int, sides []side, turns [][]turn) {
	name, bar := "door, single events", singleBar
	if events > 1 {
		name, bar = fmt.Sprintf("door, batches of %d", events), batchBar
	}
	var rows [][]string
	for i, s := range sides {
		m := medians(turns, i)
		rows = append(rows, []string{
			s.name, whole(m.perSecond), whole(m.sustained), ms(m.p50), ms(m.p99), fmt.Sprintf("%.0f", m.serverMS), fmt.Sprintf("%.0f", m.brokerMS),
			fmt.Sprint(m.refused), percent(m.noise),
		})
	}
	b.report.table(fmt.Sprintf("%s of 1 KiB, %d connections, closed loop, medians of %d rounds of %s", name, connections, len(turns), b.length),
		"side|events/s answered|in Kafka|p50|p99|CPU ms per 1,000, server|broker|refused|others", rows)
	b.listRounds(sides, turns)

	which := faster(turns)
	door, yard, r := medians(turns, 0), medians(turns, which), ratio(turns, 0, which)
	b.report.add(line{
		what: name, bar: fmt.Sprintf("≥ %.1f ×", bar), verdict: atLeast(r, bar), noise: max(door.noise, yard.noise),
		value: fmt.Sprintf("%s/s (%s/s in Kafka), %.2f × the minimal handler (%s/s); CPU %.0f against %.0f ms per 1,000",
			whole(door.perSecond), whole(door.sustained), r, whole(yard.perSecond), door.serverMS, yard.serverMS),
	})
	if events > 1 {
		return
	}
	b.report.add(line{
		what: name + ", p99", bar: "no worse", verdict: atMost(door.p99.Seconds(), yard.p99.Seconds()), noise: max(door.noise, yard.noise),
		value: fmt.Sprintf("%s against %s (p50 %s against %s)", ms(door.p99), ms(yard.p99), ms(door.p50), ms(yard.p50)),
	})
	b.report.add(line{
		what: name + ", aim", bar: "3 × RudderStack", verdict: atLeast(door.perSecond, 3*peerSingles), noise: door.noise,
		value: fmt.Sprintf("%.1f × %s/s", door.perSecond/peerSingles, whole(peerSingles)),
	})
}

// listRounds lists every round that counts, so that a reader sees how far they spread.
func (b *bench) listRounds(sides []side, turns [][]turn) {
	for i, round := range turns {
		text := fmt.Sprintf("Round %d:", i+1)
		for j, t := range round {
			text += fmt.Sprintf(" %s %s/s (load %.1f, others %s);", sides[j].name, whole(t.perSecond()), t.load, percent(t.noise))
		}
		b.report.note("%s", text[:len(text)-1]+".")
	}
}
