package app

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	versionFile = "VERSION"
	// dataVersion grows when an older binary could not use what a newer one wrote. Each engine and store has a version
	// of its own besides.
	dataVersion = 1
)

// checkDataVersion refuses a data directory of a newer version and marks a new one.
func checkDataVersion(dir string) error {
	path := filepath.Join(dir, versionFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return durable.WriteFileAtomic(path, []byte(strconv.Itoa(dataVersion)+"\n"), 0o600)
	}
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "data_dir_unreadable", "This user may not read "+path)
	}
	found, err := strconv.Atoi(strings.TrimSpace(string(data)))
	switch {
	case err != nil:
		return errs.New(errs.Precondition, "data_dir_damaged",
			path+" does not hold a version number; restore it from a backup, or choose another --data-dir")
	case found > dataVersion:
		return errs.New(errs.Precondition, "data_dir_newer",
			fmt.Sprintf("%s was written by a newer version of Mekong (format %d, this one knows %d); start that version", dir, found, dataVersion))
	default:
		return nil
	}
}

// tokenBytes gives a token 256 bits.
const tokenBytes = 32

func randomToken() (string, error) {
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("random token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// dataPath makes the folder of one context in the data directory.
func dataPath(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", errs.Wrap(err, errs.Precondition, "data_dir_unwritable", "This user may not write "+dir)
	}
	return path, nil
}
