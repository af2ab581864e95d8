package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const canaryFile = "mekong-canary.json"

// sighting is the content of the canary file: where each partition ended, at the latest at the time At. Records below
// were acknowledged, so a log that ends earlier has lost some.
type sighting struct {
	At   time.Time                  `json:"at"`
	Ends map[string]map[int32]int64 `json:"ends"`
}

// canary proves that the disk takes writes, and remembers the ends of the logs while doing so.
type canary struct {
	dir  string
	ends map[string]map[int32]int64
}

func (c *canary) see(ends kadm.ListedOffsets) {
	c.ends = map[string]map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			return
		}
		if c.ends[o.Topic] == nil {
			c.ends[o.Topic] = map[int32]int64{}
		}
		c.ends[o.Topic][o.Partition] = o.Offset
	})
}

// prove writes and fsyncs the canary file.
func (c *canary) prove() error {
	data, err := json.Marshal(sighting{At: time.Now().UTC(), Ends: c.ends})
	if err != nil {
		return err
	}
	return durable.WriteFileAtomic(filepath.Join(c.dir, canaryFile), data, 0o600)
}

// readCanary returns what the canary saw before the last stop; nothing when the directory is new.
func readCanary(dir string) (sighting, error) {
	path := filepath.Join(dir, canaryFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return sighting{}, nil
	}
	var s sighting
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return sighting{}, errs.Wrap(err, errs.Precondition, "kafka_canary_damaged", fmt.Sprintf(
			"%s cannot be read; restore the directory from a backup, or remove this file to start without the check for lost records", path))
	}
	return s, nil
}

func sortedTopics(offsets kadm.ListedOffsets) []string { return slices.Sorted(maps.Keys(offsets)) }
