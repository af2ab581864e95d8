package clickhouse

import (
	"context"
	"runtime"
)

// session is a connection bound to one operating system thread. The engine keeps per-thread state between the calls of one
// statement (start, fetch, done, close); calls of one connection from changing threads, as Go would make them, corrupt it.
type session struct {
	work chan func(*connection)
	gone chan struct{}
	uses int // counted by the pool
}

// openSession opens a connection on a new thread and prepares it with statements such as USE and SET.
func openSession(ctx context.Context, lib *library, args, setup []string) (*session, error) {
	s := &session{work: make(chan func(*connection)), gone: make(chan struct{})}
	opened := make(chan error, 1)
	go s.loop(lib, args, setup, opened)
	select {
	case err := <-opened:
		if err != nil {
			<-s.gone
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		go func() { // the open call cannot be interrupted; its connection is closed as soon as it returns
			if <-opened == nil {
				close(s.work)
			}
		}()
		return nil, ctx.Err()
	}
}

// loop owns the thread. It does not unlock it, so the thread ends with the session and takes its engine state with it.
func (s *session) loop(lib *library, args, setup []string, opened chan<- error) {
	runtime.LockOSThread()
	defer close(s.gone)
	conn, err := lib.open(args)
	if err != nil {
		opened <- err
		return
	}
	defer conn.close()
	for _, sql := range setup {
		r, err := conn.query(sql, "Null", params{})
		if err != nil {
			opened <- err
			return
		}
		r.free()
	}
	opened <- nil
	for f := range s.work {
		f(conn)
	}
}

// do runs f on the thread of the session and waits for it.
func (s *session) do(f func(*connection)) {
	done := make(chan struct{})
	s.work <- func(c *connection) {
		defer close(done)
		f(c)
	}
	<-done
}

// close ends connection and thread.
func (s *session) close() {
	close(s.work)
	<-s.gone
}
