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
	// maxSessionUses after which a session is replaced: the engine keeps a little memory for each statement of a connection.
	maxSessionUses = 500
)

// pool keeps sessions whose last statement ended well, by what they were prepared with.
type pool struct {
	lib  *library
	args []string

	closing sync.WaitGroup

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

// put gives a session back for reuse. Only sessions whose last statement left nothing behind and ended well may come back.
func (p *pool) put(key string, s *session) {
	s.uses++
	p.mu.Lock()
	var surplus *session
	switch {
	case p.closed, s.uses >= maxSessionUses:
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
		p.discard(surplus)
	}
}

// discard closes a session without making its statement wait for that.
func (p *pool) discard(s *session) { p.closing.Go(s.close) }

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
	p.closing.Wait()
}
