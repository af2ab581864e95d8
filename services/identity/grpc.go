package identity

import (
	"context"
	"fmt"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// maxLookup bounds the hashes of one LookupEvents.
const maxLookup = 10_000

// server answers IdentityService.
type server struct {
	identityv1.UnimplementedIdentityServiceServer

	dedupe  *dedupe.Store
	metrics *metrics
}

// LookupEvents implements identityv1.IdentityServiceServer. Hashes name no workspace, so only services may ask.
func (s *server) LookupEvents(ctx context.Context, req *identityv1.LookupEventsRequest) (*identityv1.LookupEventsResponse, error) {
	caller, ok := tenant.From(ctx)
	if !ok {
		return nil, tenant.ErrUnauthenticated()
	}
	if !caller.Service {
		return nil, errs.New(errs.Forbidden, "service_only", "Only services of this installation may call LookupEvents")
	}
	if len(req.GetEventHashes()) > maxLookup {
		return nil, errs.New(errs.Invalid, "too_many_hashes", fmt.Sprintf("Send at most %d hashes at once", maxLookup))
	}
	hashes := make([]ids.Hash, len(req.GetEventHashes()))
	for i, h := range req.GetEventHashes() {
		if len(h) != len(ids.Hash{}) {
			return nil, errs.New(errs.Invalid, "hash_invalid", fmt.Sprintf("Hash %d has %d bytes; an event hash has %d", i, len(h), len(ids.Hash{})))
		}
		hashes[i] = ids.Hash(h)
	}
	seen, err := s.dedupe.Seen(ctx, hashes)
	if err != nil {
		return nil, err
	}
	s.metrics.lookedUp(ctx, seen)
	return &identityv1.LookupEventsResponse{Seen: seen}, nil
}
