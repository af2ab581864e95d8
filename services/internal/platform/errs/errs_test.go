package errs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	notFound := errs.New(errs.NotFound, "source_not_found", "There is no such source.")
	for name, tc := range map[string]struct {
		err  error
		kind errs.Kind
		code string
	}{
		"plain":    {errors.New("boom"), errs.Internal, "internal"},
		"typed":    {notFound, errs.NotFound, "source_not_found"},
		"wrapped":  {fmt.Errorf("load: %w", notFound), errs.NotFound, "source_not_found"},
		"deadline": {fmt.Errorf("x: %w", context.DeadlineExceeded), errs.Unavailable, "unavailable"},
		"kind of the outer error wins": {
			errs.Wrap(notFound, errs.Unavailable, "admin_away", "The control plane is away."), errs.Unavailable, "admin_away",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.kind, errs.KindOf(tc.err))
			require.Equal(t, tc.code, errs.CodeOf(tc.err))
		})
	}
}

func TestMessageHidesCauseAndUnknownErrors(t *testing.T) {
	t.Parallel()
	require.NotContains(t, errs.MessageOf(errors.New("password=hunter2")), "hunter2")
	wrapped := errs.Wrap(errors.New("dial 10.0.0.1"), errs.Unavailable, "kafka_away", "Kafka is away; try again.")
	require.Equal(t, "Kafka is away; try again.", errs.MessageOf(wrapped))
	require.Contains(t, wrapped.Error(), "dial 10.0.0.1")
}

func TestSentinelMatchesItsCopies(t *testing.T) {
	t.Parallel()
	sentinel := errs.New(errs.RateLimited, "too_many", "Too many requests.")
	withHint := sentinel.WithRetryAfter(3 * time.Second)
	require.ErrorIs(t, fmt.Errorf("door: %w", withHint), sentinel)
	require.Equal(t, 3*time.Second, errs.RetryAfterOf(withHint))
	require.Zero(t, sentinel.RetryAfter)
	require.NotErrorIs(t, errs.New(errs.RateLimited, "other", ""), sentinel)
}
