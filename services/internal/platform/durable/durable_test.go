package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestWriteFileAtomicReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	require.NoError(t, durable.WriteFileAtomic(path, []byte("one"), 0o600))
	require.NoError(t, durable.WriteFileAtomic(path, []byte("two"), 0o600))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(got))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays behind")
}

func TestLockDirKeepsASecondOneOut(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	unlock, err := durable.LockDir(dir)
	require.NoError(t, err)
	_, err = durable.LockDir(dir)
	require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
	require.NoError(t, unlock())
	unlock, err = durable.LockDir(dir)
	require.NoError(t, err)
	require.NoError(t, unlock())
}
