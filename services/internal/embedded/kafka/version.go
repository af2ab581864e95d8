package kafka

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// kfakeVersion is the version that go.mod pins; its time stamp orders versions. A test compares the two.
const kfakeVersion = "v0.0.0-20260918054303-01f206a7e32c"

const versionFile = "VERSION"

// checkVersion refuses data of a newer kfake and marks the directory with ours: kfake reads one format back, none
// ahead.
func checkVersion(dir string) error {
	path := filepath.Join(dir, versionFile)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return errs.Wrap(err, errs.Precondition, "kafka_version_unreadable", fmt.Sprintf("%s cannot be read; check its owner and the disk", path))
	}
	if found := strings.TrimSpace(string(data)); err == nil {
		if found == kfakeVersion {
			return nil
		}
		if stamp(found) == "" || stamp(found) > stamp(kfakeVersion) {
			return errs.New(errs.Precondition, "kafka_data_newer", fmt.Sprintf(
				"The data in %s was written by kfake %q, which is newer than %s of this program; start the newer program again, or move the directory away to start empty",
				dir, found, kfakeVersion))
		}
	}
	return durable.WriteFileAtomic(path, []byte(kfakeVersion+"\n"), 0o600)
}

// stamp returns the time in a pseudo-version, which has the shape v0.0.0-YYYYMMDDHHMMSS-commit.
func stamp(version string) string {
	parts := strings.Split(version, "-")
	if len(parts) != 3 || len(parts[1]) != 14 {
		return ""
	}
	return parts[1]
}
