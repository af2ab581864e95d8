package mekong

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// failedAttempt is an attempt without results.
type failedAttempt struct {
	err error
	// again says that the same request may succeed later, not before after.
	again bool
	after time.Duration
}

// refusal reads an answer other than 200.
func refusal(resp *http.Response, text []byte, now time.Time) *failedAttempt {
	again := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout ||
		resp.StatusCode >= http.StatusInternalServerError
	return &failedAttempt{
		err: readError(resp.StatusCode, resp.Header, text), again: again, after: retryAfter(resp.Header.Get("Retry-After"), now),
	}
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// pause grows with each attempt. Its upper half is random, so that clients which failed together do not return together;
// for the same reason a Retry-After is stretched a little, never shortened.
func (c *Client) pause(attempt int, after time.Duration) time.Duration {
	longest := c.maxWait
	if attempt < 30 {
		longest = min(c.maxWait, c.minWait<<attempt)
	}
	pause := longest/2 + rand.N(longest/2+1)
	if pause < after {
		pause = after + rand.N(c.minWait)
	}
	return pause
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
