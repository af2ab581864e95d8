package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// The pinned library. Another version needs the measurements behind this package done again.
const (
	// LibraryVersion is what chdb_version() of the pinned library answers.
	LibraryVersion = "26.7.3"
	librarySHA256  = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5"
)

// externalHint ends every sentence about a library that cannot be used.
const externalHint = "or name a ClickHouse server in MEKONG_CLICKHOUSE__URL"

// verifiedLibrary remembers which file was hashed: the library has more than 500 MB.
type verifiedLibrary struct {
	SHA256  string `json:"sha256"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"mod_time_ns"`
	Inode   uint64 `json:"inode"`
}

// verifyLibrary makes sure that path is the pinned library. stamp remembers the answer as long as the file is the same.
func verifyLibrary(path, stamp string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return errs.New(errs.Precondition, "engine_unsupported", fmt.Sprintf(
			"The embedded ClickHouse exists for linux/amd64 only and this is %s/%s; name a ClickHouse server in MEKONG_CLICKHOUSE__URL",
			runtime.GOOS, runtime.GOARCH))
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, errs.Precondition, "engine_missing", fmt.Sprintf(
			"The ClickHouse library %s is not installed; run `make engines`, %s", path, externalHint))
	}
	if err != nil {
		return fileError(err, path)
	}
	want := verifiedLibrary{SHA256: librarySHA256, Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		want.Inode = stat.Ino
	}
	var known verifiedLibrary
	if text, err := os.ReadFile(stamp); err == nil && json.Unmarshal(text, &known) == nil && known == want {
		return nil
	}
	sum, err := hashFile(path)
	if err != nil {
		return fileError(err, path)
	}
	if sum != librarySHA256 {
		return errs.New(errs.Precondition, "engine_checksum", fmt.Sprintf(
			"%s is not the pinned ClickHouse library %s (its checksum differs); run `make engines`, %s", path, LibraryVersion, externalHint))
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return durable.WriteFileAtomic(stamp, text, 0o600)
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
