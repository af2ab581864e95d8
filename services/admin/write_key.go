package admin

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	writeKeyPrefix = "wk_"
	writeKeyBytes  = 24
	// maxRotation keeps a forgotten rotation from being one for ever.
	maxRotation = 365 * 24 * time.Hour
)

// WriteKey lets a sender send to one source. It is public: pages and apps carry it.
type WriteKey struct {
	WorkspaceID string
	SourceID    string
	Key         string
	Revision    int64
	CreatedAt   time.Time
	// ExpiresAt is until when it is accepted; zero means for ever.
	ExpiresAt time.Time
	// RevokedAt is zero until someone stops the key.
	RevokedAt time.Time
}

// newWriteKey makes a key that nobody can guess: public as it is, it must not be found by trying.
func newWriteKey() string { return writeKeyPrefix + randomBase62(writeKeyBytes) }

// Accepted tells whether senders may use the key at now.
func (k WriteKey) Accepted(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// expireBy lets the key end at t; a key that ends sooner keeps its end. It reports whether that changed anything.
func (k *WriteKey) expireBy(t, now time.Time) bool {
	if !k.Accepted(now) || (!k.ExpiresAt.IsZero() && !t.Before(k.ExpiresAt)) {
		return false
	}
	k.ExpiresAt = t
	k.Revision = nextRevision(k.Revision, now)
	return true
}

// revoke stops the key at once. It reports whether that changed anything.
func (k *WriteKey) revoke(now time.Time) bool {
	if !k.RevokedAt.IsZero() {
		return false
	}
	k.RevokedAt = now
	k.Revision = nextRevision(k.Revision, now)
	return true
}

func validateRotation(after *time.Duration) error {
	var p problems
	if after != nil && (*after < 0 || *after > maxRotation) {
		p.add("rotate_after_s", "must be between 0 and 31536000 (a year)")
	}
	return p.err("invalid_write_key")
}

func errWriteKeyNotFound() error {
	return errs.New(errs.NotFound, "write_key_not_found", "There is no such write key.")
}
