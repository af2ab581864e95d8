package clickhouse

import (
	"context"
	"sync"
	"time"
)

const (
	// maxIdleSessions are kept open for the next statement; each costs a thread.
	maxIdleSessions = 12
	// idleSessionTime after which an unused session is closed.
	idleSessionTime = time.Minute
)

// pool keeps sessions that finished a read without an error, by what they were prepared with.
type pool struct {
	lib  *library
	args []string

	mu     sync.Mutex
	idle   []idleSession // oldest first
	closed bool
}

type idleSession struct {
	key   string
	since time.Time
	*session
}

// get returns an idle session prepared like this, or opens one.
func (p *pool) get(ctx context.Context, key string, setup []string) (*session, error) {
	p.mu.Lock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if p.idle[i].key == key {
			s := p.idle[i].session
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.mu.Unlock()
			return s, nil
		}
	}
	p.mu.Unlock()
	return openSession(ctx, p.lib, p.args, setup)
}

// put gives a session back for reuse. Only sessions whose last statement was a read and ended well may come back.
func (p *pool) put(key string, s *session) {
	p.mu.Lock()
	var surplus *session
	switch {
	case p.closed:
		surplus = s
	default:
		p.idle = append(p.idle, idleSession{key: key, since: time.Now(), session: s})
		if len(p.idle) > maxIdleSessions {
			surplus = p.idle[0].session
			p.idle = p.idle[1:]
		}
	}
	p.mu.Unlock()
	if surplus != nil {
		surplus.close()
	}
}

// trim closes sessions that were not used for a while.
func (p *pool) trim(now time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) > idleSessionTime {
		n++
	}
	old := append([]idleSession(nil), p.idle[:n]...)
	p.idle = append([]idleSession(nil), p.idle[n:]...)
	p.mu.Unlock()
	for _, s := range old {
		s.close()
	}
}

// close ends all idle sessions; sessions in use end when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, s := range idle {
		s.close()
	}
}
