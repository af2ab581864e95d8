package identity

import (
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// cachedProfile is shared by all cached identifiers of a profile, so that they agree on its version.
type cachedProfile struct {
	id      string
	no      int64
	version atomic.Int64
}

func (p *cachedProfile) profile() Profile {
	return Profile{ID: p.id, No: p.no, Version: p.version.Load()}
}

func (p *cachedProfile) raise(version int64) {
	for {
		have := p.version.Load()
		if have >= version || p.version.CompareAndSwap(have, version) {
			return
		}
	}
}

// profileCache remembers whose identifiers are. An identifier never leaves its profile, so an entry can only be behind
// in its version: when another instance attached something.
type profileCache struct {
	byHash *otter.Cache[ids.Hash, *cachedProfile]
	byNo   *otter.Cache[int64, *cachedProfile]
}

func newProfileCache(size int) (*profileCache, error) {
	byHash, err := otter.New(&otter.Options[ids.Hash, *cachedProfile]{MaximumSize: size})
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "cache_size_invalid", "identity.cache_identifiers must be positive")
	}
	byNo, err := otter.New(&otter.Options[int64, *cachedProfile]{MaximumSize: size})
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "cache_size_invalid", "identity.cache_identifiers must be positive")
	}
	return &profileCache{byHash: byHash, byNo: byNo}, nil
}

// resolve returns the profile of the strongest identifier when all of them are known.
func (c *profileCache) resolve(identifiers []Identifier) (Profile, bool) {
	var strongest *cachedProfile
	for i := range identifiers {
		p, ok := c.byHash.GetIfPresent(identifiers[i].Hash)
		if !ok {
			return Profile{}, false
		}
		if strongest == nil {
			strongest = p
		}
	}
	if strongest == nil {
		return Profile{}, false
	}
	return strongest.profile(), true
}

func (c *profileCache) remember(known map[ids.Hash]Profile) {
	for hash, p := range known {
		shared, _ := c.byNo.SetIfAbsent(p.No, newCachedProfile(p))
		shared.raise(p.Version)
		c.byHash.Set(hash, shared)
	}
}

func newCachedProfile(p Profile) *cachedProfile {
	c := &cachedProfile{id: p.ID, no: p.No}
	c.version.Store(p.Version)
	return c
}
