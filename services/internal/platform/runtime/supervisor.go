package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Options bound how long the supervisor waits.
type Options struct {
	// StartTimeout is how long one runner may take until it has started.
	StartTimeout time.Duration
	// StopTimeout is how long one module may take to stop; what is still running then is left behind with a log line.
	StopTimeout time.Duration
	Log         *slog.Logger
}

// Supervisor runs ordered modules.
type Supervisor struct {
	modules []Module
	opts    Options

	mu       sync.Mutex
	started  []*running
	complete bool
	stopping bool
}

// running is a module whose runners live.
type running struct {
	name    string
	runners []Runner
	close   func(context.Context) error
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// Check is the readiness of one runner.
type Check struct {
	Name string
	// Err is nil when ready.
	Err error
}

// NewSupervisor returns a supervisor for modules that Order has put in order.
func NewSupervisor(modules []Module, opts Options) *Supervisor {
	return &Supervisor{modules: modules, opts: opts}
}

// Run starts all modules, waits until ctx is done or a runner fails, then stops all in reverse. It returns nil after a
// clean stop, else the first failure.
func (s *Supervisor) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	err := s.startAll(ctx, failed, fail)
	if err == nil {
		s.setComplete()
		s.opts.Log.InfoContext(ctx, "all modules started")
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	if err != nil {
		s.opts.Log.ErrorContext(ctx, "stopping because a part failed", "error", err)
	}
	return errors.Join(err, s.stopAll(context.WithoutCancel(ctx)))
}

func (s *Supervisor) startAll(ctx context.Context, failed <-chan error, fail func(error)) error {
	for _, m := range s.modules {
		if err := s.startModule(ctx, m, failed, fail); err != nil {
			return err
		}
	}
	return nil
}

func (s *Supervisor) startModule(ctx context.Context, m Module, failed <-chan error, fail func(error)) error {
	begin := time.Now()
	parts, err := m.Build(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	// The module outlives ctx: it is stopped by its own cancel, in its turn.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{name: m.Name, runners: parts.Runners, close: parts.Close, cancel: cancel}
	s.mu.Lock()
	s.started = append(s.started, r)
	s.mu.Unlock()
	for _, runner := range parts.Runners {
		if err := s.startRunner(ctx, runCtx, r, runner, failed, fail); err != nil {
			return fmt.Errorf("%s: %w", runner.Name, err)
		}
	}
	s.opts.Log.InfoContext(ctx, "module started", "module", m.Name, "took_ms", time.Since(begin).Milliseconds())
	return nil
}

func (s *Supervisor) startRunner(
	ctx, runCtx context.Context, r *running, runner Runner, failed <-chan error, fail func(error),
) error {
	started := make(chan struct{})
	ended := make(chan error, 1)
	var once sync.Once
	r.done.Add(1)
	go func() {
		defer r.done.Done()
		err := runner.Run(runCtx, func() { once.Do(func() { close(started) }) })
		if err == nil && runCtx.Err() == nil {
			err = errs.New(errs.Internal, "runner_ended", "ended without being asked to")
		}
		if runCtx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil
		}
		ended <- err
		if err != nil {
			fail(fmt.Errorf("%s: %w", runner.Name, err))
		}
	}()
	timeout := time.NewTimer(s.opts.StartTimeout)
	defer timeout.Stop()
	select {
	case <-started:
		return nil
	case err := <-ended:
		return err
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return errs.New(errs.Unavailable, "start_timeout", fmt.Sprintf("has not started within %s", s.opts.StartTimeout))
	}
}

func (s *Supervisor) stopAll(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	started := s.started
	s.mu.Unlock()
	var all error
	for i := len(started) - 1; i >= 0; i-- {
		all = errors.Join(all, s.stopModule(ctx, started[i]))
	}
	return all
}

func (s *Supervisor) stopModule(ctx context.Context, r *running) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.StopTimeout)
	defer cancel()
	r.cancel()
	done := make(chan struct{})
	go func() {
		r.done.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// What still runs may use what Close would free.
		return errs.New(errs.Internal, "stop_timeout", fmt.Sprintf("%s has not stopped within %s", r.name, s.opts.StopTimeout))
	}
	if r.close != nil {
		if err := r.close(ctx); err != nil {
			return fmt.Errorf("%s: close: %w", r.name, err)
		}
	}
	s.opts.Log.InfoContext(ctx, "module stopped", "module", r.name)
	return nil
}

func (s *Supervisor) setComplete() {
	s.mu.Lock()
	s.complete = true
	s.mu.Unlock()
}

// Ready returns one check per runner of what has started, and a failing one while not all has started or when stopping.
func (s *Supervisor) Ready(ctx context.Context) []Check {
	s.mu.Lock()
	started, complete, stopping := s.started, s.complete, s.stopping
	s.mu.Unlock()
	var checks []Check
	switch {
	case stopping:
		checks = append(checks, Check{Name: "process", Err: errs.New(errs.Unavailable, "stopping", "The process is stopping.")})
	case !complete:
		checks = append(checks, Check{Name: "process", Err: errs.New(errs.Unavailable, "starting", "The process is starting.")})
	}
	for _, r := range started {
		for _, runner := range r.runners {
			check := Check{Name: runner.Name}
			if runner.Ready != nil {
				check.Err = runner.Ready(ctx)
			}
			checks = append(checks, check)
		}
	}
	return checks
}

// Drain makes Ready fail from now on, so that balancers send nothing new while the process still serves.
func (s *Supervisor) Drain() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
}
