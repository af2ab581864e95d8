package runtime_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOrder(t *testing.T) {
	t.Parallel()
	table := []runtime.Module{
		{Name: "doors", After: []string{"collector", "admin"}},
		{Name: "collector", Needs: []string{"topics"}},
		{Name: "admin", Needs: []string{"postgres", "topics"}},
		{Name: "topics", After: []string{"kafka"}},
		{Name: "kafka"},
		{Name: "postgres"},
	}
	for name, tc := range map[string]struct {
		targets, want []string
	}{
		"needs come first":              {[]string{"admin"}, []string{"postgres", "topics", "admin"}},
		"after orders without choosing": {[]string{"doors", "collector"}, []string{"topics", "collector", "doors"}},
		"all": {
			[]string{"doors", "collector", "admin", "kafka"},
			[]string{"kafka", "topics", "collector", "postgres", "admin", "doors"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			modules, err := runtime.Order(table, tc.targets)
			require.NoError(t, err)
			var got []string
			for _, m := range modules {
				got = append(got, m.Name)
			}
			require.Empty(t, cmp.Diff(tc.want, got))
		})
	}
}

func TestOrderRefuses(t *testing.T) {
	t.Parallel()
	_, err := runtime.Order([]runtime.Module{{Name: "a"}, {Name: "b"}}, []string{"c"})
	require.Equal(t, "unknown_target", errs.CodeOf(err))
	require.ErrorContains(t, err, "a, b")
	_, err = runtime.Order([]runtime.Module{{Name: "a", Needs: []string{"b"}}, {Name: "b", Needs: []string{"a"}}}, []string{"a"})
	require.Equal(t, "module_cycle", errs.CodeOf(err))
}

// journal notes what happened in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) module(name string, run func(context.Context) error) runtime.Module {
	return runtime.Module{Name: name, Build: func(context.Context) (runtime.Parts, error) {
		return runtime.Parts{
			Runners: []runtime.Runner{{Name: name + ".run", Run: func(ctx context.Context, started func()) error {
				j.add("start " + name)
				started()
				err := run(ctx)
				j.add("stop " + name)
				return err
			}}},
			Close: func(context.Context) error { j.add("close " + name); return nil },
		}, nil
	}}
}

func wait(ctx context.Context) error { <-ctx.Done(); return nil }

func options() runtime.Options {
	return runtime.Options{StartTimeout: time.Second, StopTimeout: time.Second, Log: slog.New(slog.DiscardHandler)}
}

func TestStopsInReverse(t *testing.T) {
	t.Parallel()
	var j journal
	ctx, cancel := context.WithCancel(t.Context())
	last := j.module("b", func(ctx context.Context) error { cancel(); return wait(ctx) })
	s := runtime.NewSupervisor([]runtime.Module{j.module("a", wait), last}, options())
	require.NoError(t, s.Run(ctx))
	require.Equal(t, []string{"start a", "start b", "stop b", "close b", "stop a", "close a"}, j.lines)
}

func TestOneFailureStopsAll(t *testing.T) {
	t.Parallel()
	var j journal
	boom := errors.New("boom")
	fail := make(chan struct{})
	s := runtime.NewSupervisor([]runtime.Module{
		j.module("a", func(context.Context) error { <-fail; return boom }),
		j.module("b", func(ctx context.Context) error { close(fail); return wait(ctx) }),
	}, options())
	err := s.Run(t.Context())
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "a.run")
	require.Contains(t, j.lines, "close b")
	require.Equal(t, "close a", j.lines[len(j.lines)-1])
}

func TestBuildFailureClosesWhatHadStarted(t *testing.T) {
	t.Parallel()
	var j journal
	s := runtime.NewSupervisor([]runtime.Module{
		j.module("a", wait),
		{Name: "b", Build: func(context.Context) (runtime.Parts, error) {
			return runtime.Parts{}, errs.New(errs.Precondition, "port_taken", "Port taken.")
		}},
	}, options())
	err := s.Run(t.Context())
	require.Equal(t, "port_taken", errs.CodeOf(err))
	require.Equal(t, []string{"start a", "stop a", "close a"}, j.lines)
}

func TestARunnerThatNeverStartsIsNamed(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.StartTimeout = 10 * time.Millisecond
	s := runtime.NewSupervisor([]runtime.Module{{Name: "a", Build: func(context.Context) (runtime.Parts, error) {
		return runtime.Parts{Runners: []runtime.Runner{{Name: "a.run", Run: func(ctx context.Context, _ func()) error {
			return wait(ctx)
		}}}}, nil
	}}}, opts)
	err := s.Run(t.Context())
	require.Equal(t, "start_timeout", errs.CodeOf(err))
	require.ErrorContains(t, err, "a.run")
}

func TestAnEndNobodyAskedForIsAFailure(t *testing.T) {
	t.Parallel()
	var j journal
	s := runtime.NewSupervisor([]runtime.Module{j.module("a", func(context.Context) error { return nil })}, options())
	require.Equal(t, "runner_ended", errs.CodeOf(s.Run(t.Context())))
}

func TestReadyFollowsTheLife(t *testing.T) {
	t.Parallel()
	var j journal
	ctx, cancel := context.WithCancel(t.Context())
	behind := errs.New(errs.Unavailable, "behind", "Catching up.")
	m := j.module("a", wait)
	build := m.Build
	m.Build = func(ctx context.Context) (runtime.Parts, error) {
		parts, err := build(ctx)
		parts.Runners[0].Ready = func(context.Context) error { return behind }
		return parts, err
	}
	s := runtime.NewSupervisor([]runtime.Module{m}, options())
	require.Equal(t, "starting", errs.CodeOf(s.Ready(ctx)[0].Err))
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	require.Eventually(t, func() bool {
		checks := s.Ready(ctx)
		return len(checks) == 1 && checks[0].Name == "a.run" && errors.Is(checks[0].Err, behind)
	}, 5*time.Second, time.Millisecond)
	s.Drain()
	require.Equal(t, "stopping", errs.CodeOf(s.Ready(ctx)[0].Err))
	cancel()
	require.NoError(t, <-done)
}
