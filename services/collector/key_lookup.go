package collector

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
)

const (
	lookupDeadline = 500 * time.Millisecond
	refusalAge     = 5 * time.Second
	maxRefusals    = 10_000
	// lookupsPerSecond bounds what guesses of keys can cost admin.
	lookupsPerSecond = 100
	maxKeyLength     = 128
)

// adminKeys is the part of admin that the door calls.
type adminKeys interface {
	ResolveWriteKey(ctx context.Context, in *adminv1.ResolveWriteKeyRequest, opts ...grpc.CallOption) (*adminv1.ResolveWriteKeyResponse, error)
}

// keyFinder finds the source of a key: in the read model, else by asking admin once, so that a key works from the
// moment it was made, before its message arrives.
type keyFinder struct {
	ring  *keyRing
	admin adminKeys
	clock clock.Clock
	// refusals maps refused keys to when they may be asked for again.
	refusals *otter.Cache[string, time.Time]
	flights  singleflight.Group
	limit    *rate.Limiter
	loaded   func() bool
}

func newKeyFinder(ring *keyRing, admin adminKeys, clk clock.Clock, loaded func() bool) (*keyFinder, error) {
	refusals, err := otter.New(&otter.Options[string, time.Time]{MaximumSize: maxRefusals})
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "cache_invalid", "The cache of refused keys could not be made")
	}
	return &keyFinder{
		ring: ring, admin: admin, clock: clk, refusals: refusals, loaded: loaded,
		limit: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
	}, nil
}

// find returns the source that a key may send to.
// Errors: Unauthenticated "write_key_unknown", NotFound "source_disabled", Unavailable while keys are loaded or admin is
// away, RateLimited when too many unknown keys were tried.
func (f *keyFinder) find(ctx context.Context, key string) (Source, error) {
	source, known, err := f.ring.find(key, f.clock.Now())
	if known {
		return source, err
	}
	if !plausibleKey(key) {
		return Source{}, errKeyUnknown
	}
	if until, ok := f.refusals.GetIfPresent(key); ok && f.clock.Now().Before(until) {
		return Source{}, errKeyUnknown
	}
	found, err, _ := f.flights.Do(key, func() (any, error) { return f.ask(context.WithoutCancel(ctx), key) })
	if err != nil {
		return Source{}, err
	}
	return found.(Source), nil
}

// plausibleKey keeps what cannot be a key from costing a call.
func plausibleKey(key string) bool {
	if len(key) == 0 || len(key) > maxKeyLength {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}

func (f *keyFinder) ask(ctx context.Context, key string) (Source, error) {
	if !f.limit.AllowN(f.clock.Now(), 1) {
		return Source{}, errs.New(errs.RateLimited, "too_many_unknown_keys", "Too many unknown write keys were tried; try again.").WithRetryAfter(time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupDeadline)
	defer cancel()
	answer, err := f.admin.ResolveWriteKey(ctx, &adminv1.ResolveWriteKeyRequest{WriteKey: key})
	if err != nil {
		switch errs.KindOf(rpc.FromStatus(err)) {
		case errs.NotFound, errs.Invalid:
			return Source{}, f.refuse(key)
		}
		if !f.loaded() {
			return Source{}, errKeysNotLoaded
		}
		return Source{}, errs.Wrap(err, errs.Unavailable, "key_lookup_failed", "The write key could not be checked; try again.").WithRetryAfter(time.Second)
	}
	f.ring.change(func(d *draft) {
		d.source(sourceFromProto(answer.GetSource()), answer.GetSourceRevision())
		d.writeKey(key, answer.GetWriteKeyRevision(), keyFromProto(answer.GetWriteKey()))
	})
	source, known, err := f.ring.find(key, f.clock.Now())
	if !known {
		return Source{}, f.refuse(key)
	}
	return source, err
}

func (f *keyFinder) refuse(key string) error {
	f.refusals.Set(key, f.clock.Now().Add(refusalAge))
	return errKeyUnknown
}
