package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profile records the CPU profile of the main process for a while, beside what is measured, when --profiles names a
// folder. It returns a function that waits for it. Profiling costs a few percent, so profiled numbers do not count.
func (b *bench) profile(ctx context.Context, s *system, name string, length time.Duration) (wait func()) {
	if b.profiles == "" {
		return func() {}
	}
	done := make(chan error, 1)
	go func() {
		done <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", s.metrics, length.Seconds()), filepath.Join(b.profiles, name+".pprof"))
	}()
	return func() { b.warn(<-done) }
}

func fetch(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 5 * time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", url, resp.StatusCode)
	}
	return os.WriteFile(path, data, 0o600)
}
