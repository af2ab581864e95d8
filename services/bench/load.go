package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// outcome is what one load has brought.
type outcome struct {
	events  int // acknowledged
	refused int // requests that were answered with anything but 200
	// firstRefusal is the first such answer.
	firstRefusal string
	elapsed      time.Duration
	latency      histogram
}

func (o *outcome) perSecond() float64 { return float64(o.events) / o.elapsed.Seconds() }

// connection is one keep-alive connection.
type connection struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(ctx context.Context, address string) (*connection, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}, nil
}

// answerLimit is when a server counts as stuck.
const answerLimit = 30 * time.Second

// roundTrip sends a request and reads the whole answer.
func (c *connection) roundTrip(request []byte) (status int, body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("no HTTP status in %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("no HTTP status in %q", line)
	}
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, fmt.Errorf("bad Content-Length %q", value)
			}
		}
	}
	if length < 0 {
		return 0, nil, errors.New("an answer without Content-Length")
	}
	if status == 200 {
		_, err = c.in.Discard(length)
		return status, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(c.in, body)
	return status, body, err
}

// backoff is how long a refused sender waits: short, so that refusals show in the numbers.
const backoff = 5 * time.Millisecond

// closedLoop sends as fast as answers come, over conns connections, for the given time.
func closedLoop(ctx context.Context, address string, t *template, src *source, conns int, length time.Duration) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, length+answerLimit)
	defer cancel()
	begin := time.Now()
	return inParallel(conns, begin, func(part *outcome) error {
		c, err := dial(ctx, address)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		r := t.copy(src)
		n := uint64(len(r.slots))
		for {
			now := time.Now()
			if now.Sub(begin) >= length {
				return nil
			}
			r.fill(src.next.Add(n)-n, now)
			ok, err := part.exchange(ctx, c, r.request, now)
			if err != nil {
				return err
			}
			if ok {
				part.events += len(r.slots)
			}
		}
	})
}

// exchange sends a request and records the answer. Latency counts from since.
func (o *outcome) exchange(ctx context.Context, c *connection, request []byte, since time.Time) (ok bool, err error) {
	status, body, err := c.roundTrip(request)
	if err != nil {
		return false, err
	}
	if status == 200 {
		o.latency.record(time.Since(since))
		return true, nil
	}
	o.refused++
	if o.firstRefusal == "" {
		o.firstRefusal = fmt.Sprintf("%d %s", status, body)
	}
	return false, pause(ctx, backoff)
}

// openLoop offers batches at a constant rate, whether answers come or not, and calls acknowledged for each batch that
// was answered 200 with the number of its first event. Latency counts from the moment at which a batch was due.
func openLoop(ctx context.Context, address string, t *template, src *source, o offered) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, o.length+answerLimit)
	defer cancel()
	batches := int(o.perSecond * o.length.Seconds() / float64(len(t.slots)))
	interval := time.Duration(float64(o.length) / float64(batches))
	due := make(chan int, batches)
	begin := time.Now()
	go func() {
		defer close(due)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; i < batches; {
			select {
			case now := <-tick.C:
				for ; i < batches && now.Sub(begin) >= time.Duration(i)*interval; i++ {
					due <- i
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return inParallel(o.conns, begin, func(part *outcome) error {
		c, err := dial(ctx, address)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		r := t.copy(src)
		for i := range due {
			n := uint64(len(r.slots))
			first := src.next.Add(n) - n
			r.fill(first, time.Now())
			name := plainName
			if i%o.sampleEvery == 0 {
				name = sampleName
			}
			r.name(name)
			ok, err := part.exchange(ctx, c, r.request, begin.Add(time.Duration(i)*interval))
			if err != nil {
				return err
			}
			if ok {
				part.events += len(r.slots)
				if name == sampleName {
					o.sampled(eventID(src.run, first), time.Now())
				}
			}
		}
		return nil
	})
}

// offered describes an open load.
type offered struct {
	perSecond   float64
	length      time.Duration
	conns       int
	sampleEvery int
	// sampled gets the id of the first event of every sampleEvery-th batch and when it was acknowledged.
	sampled func(id string, at time.Time)
}

// inParallel runs n senders and adds up what they bring.
func inParallel(n int, begin time.Time, send func(*outcome) error) (*outcome, error) {
	parts := make([]outcome, n)
	failures := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { failures[i] = send(&parts[i]) })
	}
	group.Wait()
	sum := &outcome{elapsed: time.Since(begin)}
	for i := range parts {
		sum.events += parts[i].events
		sum.refused += parts[i].refused
		if sum.firstRefusal == "" {
			sum.firstRefusal = parts[i].firstRefusal
		}
		sum.latency.add(&parts[i].latency)
	}
	return sum, errors.Join(failures...)
}

// pause waits, or returns the error of a context that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
