package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func installation(t *testing.T) Config {
	t.Helper()
	cfg := Config{DataDir: filepath.Join(t.TempDir(), "data")}
	require.NoError(t, os.MkdirAll(filepath.Join(cfg.DataDir, "spool", "empty"), 0o700))
	require.NoError(t, checkDataVersion(cfg.DataDir))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "spool", "0001.seg"), []byte("events"), 0o640))
	// ClickHouse names the folders of its tables by links like this one.
	require.NoError(t, os.Symlink(filepath.Join("..", "spool"), filepath.Join(cfg.DataDir, "spool", "link")))
	return cfg
}

func TestBackupAndRestoreGiveTheSameDirectory(t *testing.T) {
	t.Parallel()
	cfg := installation(t)
	target := filepath.Join(t.TempDir(), "backup")
	made, err := Backup(cfg, target, "v1")
	require.NoError(t, err)
	require.Equal(t, int64(len("events")+len("1\n")), made.Bytes())

	restored := Config{DataDir: filepath.Join(t.TempDir(), "restored")}
	_, err = Restore(restored, target)
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(restored.DataDir, "spool", "0001.seg"))
	require.NoError(t, err)
	require.Equal(t, "events", string(data))
	info, err := os.Stat(filepath.Join(restored.DataDir, "spool", "0001.seg"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	require.DirExists(t, filepath.Join(restored.DataDir, "spool", "empty"))
	link, err := os.Readlink(filepath.Join(restored.DataDir, "spool", "link"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join("..", "spool"), link)
	require.NoError(t, checkDataVersion(restored.DataDir))

	_, err = Restore(restored, target)
	require.Equal(t, "data_dir_not_empty", errs.CodeOf(err))
}

func TestBackupRefusesARunningSystem(t *testing.T) {
	t.Parallel()
	cfg := installation(t)
	unlock, err := durable.LockDir(cfg.DataDir)
	require.NoError(t, err)
	_, err = Backup(cfg, filepath.Join(t.TempDir(), "backup"), "v1")
	require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
	require.NoError(t, unlock())
}

func TestRestoreRefusesADamagedBackup(t *testing.T) {
	t.Parallel()
	cfg := installation(t)
	target := filepath.Join(t.TempDir(), "backup")
	_, err := Backup(cfg, target, "v1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(target, backupDataDir, "spool", "0001.seg"), []byte("eventz"), 0o600))
	restored := Config{DataDir: filepath.Join(t.TempDir(), "restored")}
	_, err = Restore(restored, target)
	require.Equal(t, "backup_damaged", errs.CodeOf(err))
	require.NoDirExists(t, restored.DataDir)

	require.NoError(t, os.Remove(filepath.Join(target, manifestFile)))
	_, err = Restore(restored, target)
	require.Equal(t, "no_backup", errs.CodeOf(err))
}

func TestBackupRefusesALinkThatLeadsOut(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"/etc", filepath.Join("..", "..", "elsewhere")} {
		cfg := installation(t)
		require.NoError(t, os.Symlink(link, filepath.Join(cfg.DataDir, "spool", "out")))
		_, err := Backup(cfg, filepath.Join(t.TempDir(), "backup"), "v1")
		require.ErrorContains(t, err, "leads out of the data directory", link)
	}
}

func TestADataDirectoryOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, versionFile), []byte("99\n"), 0o600))
	require.Equal(t, "data_dir_newer", errs.CodeOf(checkDataVersion(dir)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, versionFile), []byte("x"), 0o600))
	require.Equal(t, "data_dir_damaged", errs.CodeOf(checkDataVersion(dir)))
}
