package mekong

import (
	"context"
	"time"
)

// WithWait replaces waiting, so that tests need no time.
func WithWait(wait func(ctx context.Context, d time.Duration) error) Option {
	return func(c *Client) { c.wait = wait }
}
