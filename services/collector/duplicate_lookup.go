package collector

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	// maxLookup is what identity takes in one call.
	maxLookup = 10_000
	// restAfter failures in a row a peer is left alone for rest, so that one that hangs costs nobody its deadline.
	restAfter = 3
	rest      = time.Second
)

// identityEvents is the part of identity that the door calls.
type identityEvents interface {
	LookupEvents(ctx context.Context, in *identityv1.LookupEventsRequest, opts ...grpc.CallOption) (*identityv1.LookupEventsResponse, error)
}

// remoteSeen asks all instances of identity which events they know. A positive answer is proof; silence is none.
type remoteSeen struct {
	peers    []*seenPeer
	deadline time.Duration
}

func newRemoteSeen(clients []identityEvents, deadline time.Duration, clk clock.Clock) *remoteSeen {
	r := &remoteSeen{deadline: deadline}
	for _, c := range clients {
		r.peers = append(r.peers, &seenPeer{client: c, clock: clk})
	}
	return r
}

// lookup marks in seen, which is as long as hashes, what is known. It takes no longer than the deadline.
func (r *remoteSeen) lookup(ctx context.Context, hashes []ids.Hash, seen []bool) {
	ctx, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	if len(r.peers) == 1 {
		r.peers[0].lookup(ctx, hashes, func(i int) { seen[i] = true })
		return
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range r.peers {
		wg.Go(func() {
			p.lookup(ctx, hashes, func(i int) {
				mu.Lock()
				defer mu.Unlock()
				seen[i] = true
			})
		})
	}
	wg.Wait()
}

// seenPeer is one instance. Requests that come while a call is under way go out together in the next one.
type seenPeer struct {
	client identityEvents
	clock  clock.Clock

	mu       sync.Mutex
	busy     bool
	waiting  []*seenQuestion
	failures int
	restTill time.Time
}

type seenQuestion struct {
	hashes []ids.Hash
	// answer is closed when seen may be read.
	answer chan struct{}
	seen   []bool
}

func (p *seenPeer) lookup(ctx context.Context, hashes []ids.Hash, hit func(i int)) {
	q := &seenQuestion{hashes: hashes, answer: make(chan struct{})}
	p.mu.Lock()
	if p.clock.Now().Before(p.restTill) {
		p.mu.Unlock()
		return
	}
	p.waiting = append(p.waiting, q)
	lead := !p.busy
	p.busy = true
	p.mu.Unlock()
	if lead {
		// The call serves others too, so it does not end with this request; its own deadline bounds it.
		deadline, _ := ctx.Deadline()
		go p.ask(context.WithoutCancel(ctx), time.Until(deadline))
	}
	select {
	case <-q.answer:
	case <-ctx.Done():
		return
	}
	for i, seen := range q.seen {
		if seen {
			hit(i)
		}
	}
}

// ask sends what waits until nothing does.
func (p *seenPeer) ask(ctx context.Context, deadline time.Duration) {
	for {
		p.mu.Lock()
		group, n := p.take()
		if len(group) == 0 {
			p.busy = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		p.call(ctx, group, n, deadline)
	}
}

// take returns the questions of the next call and how many hashes they have.
func (p *seenPeer) take() ([]*seenQuestion, int) {
	hashes, n := 0, 0
	for _, q := range p.waiting {
		if n > 0 && hashes+len(q.hashes) > maxLookup {
			break
		}
		hashes += len(q.hashes)
		n++
	}
	group := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	return group, hashes
}

func (p *seenPeer) call(ctx context.Context, group []*seenQuestion, n int, deadline time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	in := &identityv1.LookupEventsRequest{EventHashes: make([][]byte, 0, n)}
	for _, q := range group {
		for i := range q.hashes {
			in.EventHashes = append(in.EventHashes, q.hashes[i][:])
		}
	}
	out, err := p.client.LookupEvents(ctx, in)
	seen := out.GetSeen()
	p.count(err == nil && len(seen) == n)
	for _, q := range group {
		if err == nil && len(seen) >= len(q.hashes) {
			q.seen, seen = seen[:len(q.hashes)], seen[len(q.hashes):]
		}
		close(q.answer)
	}
}

func (p *seenPeer) count(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok {
		p.failures = 0
		return
	}
	p.failures++
	if p.failures >= restAfter {
		p.failures, p.restTill = 0, p.clock.Now().Add(rest)
	}
}
