package ids_test

import (
	"encoding/hex"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

func TestHash128IsStableAndFramed(t *testing.T) {
	t.Parallel()
	h := ids.Hash128("ws", "event-1")
	// Stored hashes must still match after an upgrade, so the value itself is pinned.
	require.Equal(t, "45305e9eecfa705c", hex.EncodeToString(h[:8]))
	require.Equal(t, h, ids.Hash128("ws", "event-1"))
	require.NotEqual(t, ids.Hash128("ab", "c"), ids.Hash128("a", "bc"))
}

func TestV5IsFramed(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, ids.V5(uuid.NameSpaceOID, "ab", "c"), ids.V5(uuid.NameSpaceOID, "a", "bc"))
	require.True(t, ids.Valid(ids.V5(uuid.NameSpaceOID, "a")))
}

func TestNewIsOrdered(t *testing.T) {
	t.Parallel()
	a, b := ids.New(), ids.New()
	require.Less(t, a, b)
	require.True(t, ids.Valid(a))
	require.False(t, ids.Valid("not-a-uuid"))
}
