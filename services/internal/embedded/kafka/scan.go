package kafka

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// The layout of a record batch on disk, which is that of Kafka's wire format.
const (
	batchPrefix    = 12 // first offset and length
	batchMagicAt   = 16
	batchCRCAt     = 17
	batchCRCFrom   = 21
	batchDeltaAt   = 23
	batchHeader    = 61
	maxBatch       = 64 << 20
	indexEntrySize = 15
	// stateHeader frames an entry of groups.log and pids.log: length, checksum; the length counts from behind both.
	stateHeader = 8
)

// checkLogs reads what kfake is about to open. kfake cuts a log at the first damage and goes on, without a word and
// whatever lies behind; here only a tail that was being written when the process died may go.
func checkLogs(dir string, seen sighting, log *slog.Logger) error {
	for _, name := range []string{"groups.log", "pids.log"} {
		if err := checkState(filepath.Join(dir, name), log); err != nil {
			return err
		}
	}
	topics, err := readTopics(dir)
	if err != nil {
		return err
	}
	for _, t := range topics {
		for p := range t.Partitions {
			pdir := filepath.Join(dir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(t.Name), p))
			end, err := checkPartition(pdir, log)
			if err != nil {
				return err
			}
			if want := seen.Ends[t.Name][p]; end < want {
				return errs.New(errs.Precondition, "kafka_log_lost", fmt.Sprintf(
					"Partition %d of %s ends at %d but was seen to end at %d: acknowledged records were lost; restore %s from a backup, or move it away to start empty",
					p, t.Name, end, want, dir))
			}
		}
	}
	return nil
}

type topicEntry struct {
	Name       string `json:"name"`
	Partitions int32  `json:"partitions"`
}

func readTopics(dir string) ([]topicEntry, error) {
	path := filepath.Join(dir, "topics.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var list struct {
		Topics []topicEntry `json:"topics"`
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Precondition, "kafka_data_unreadable", fmt.Sprintf(
			"%s cannot be read; restore the directory from a backup, or move it away to start empty", path))
	}
	return list.Topics, nil
}

// checkPartition returns the offset at which the partition ends.
func checkPartition(dir string, log *slog.Logger) (end int64, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, unreadable(err, dir)
	}
	var bases []int64
	for _, e := range entries {
		if digits, ok := strings.CutSuffix(e.Name(), ".dat"); ok {
			if base, err := strconv.ParseInt(digits, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	for i, base := range bases {
		path := filepath.Join(dir, fmt.Sprintf("%d.dat", base))
		last := i == len(bases)-1
		if i > 0 && base != end {
			return 0, damaged(path, 0, "the records before it are missing")
		}
		if end, err = checkSegment(path, base, last, log); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// checkSegment returns the offset behind the last whole batch of the file at path.
func checkSegment(path string, base int64, last bool, log *slog.Logger) (int64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, unreadable(err, path)
	}
	next, pos, batches := base, 0, 0
	for pos < len(raw) {
		size, ok := wholeBatch(raw[pos:])
		if !ok {
			break
		}
		if first := int64(binary.BigEndian.Uint64(raw[pos:])); first != next { //nolint:gosec // offsets are int64 on disk
			return 0, damaged(path, pos, fmt.Sprintf("offset %d follows %d", first, next-1))
		}
		next += int64(binary.BigEndian.Uint32(raw[pos+batchDeltaAt:])) + 1
		pos += size
		batches++
	}
	if info, err := os.Stat(strings.TrimSuffix(path, ".dat") + ".idx"); err == nil && info.Size()/indexEntrySize > int64(batches)+1 {
		// The index is written after its batch: more than one entry too many means that whole batches are gone.
		return 0, damaged(path, pos, "its index knows of more batches")
	}
	tail := raw[pos:]
	switch {
	case len(tail) == 0:
		return next, nil
	case !last:
		return 0, damaged(path, pos, "further files follow it")
	case isZero(tail):
	case tornBatch(tail) && !holdsBatch(tail[1:]):
	default:
		return 0, damaged(path, pos, "the checksum of a batch is wrong")
	}
	log.Warn("the end of a log was being written when the process stopped, cutting it", "file", filepath.Base(path), "at", pos, "bytes", len(tail))
	return next, nil
}

// wholeBatch reports the size of the batch at the start of raw and whether it is complete and correct.
func wholeBatch(raw []byte) (int, bool) {
	if len(raw) < batchHeader {
		return 0, false
	}
	length := int(binary.BigEndian.Uint32(raw[8:]))
	size := batchPrefix + length
	if length < batchHeader-batchPrefix || length > maxBatch || size > len(raw) || raw[batchMagicAt] != 2 {
		return 0, false
	}
	return size, crc32.Checksum(raw[batchCRCFrom:size], castagnoli()) == binary.BigEndian.Uint32(raw[batchCRCAt:])
}

// tornBatch reports whether raw looks like the beginning of a batch whose end was never written.
func tornBatch(raw []byte) bool {
	if len(raw) < batchHeader {
		return true
	}
	length := int(binary.BigEndian.Uint32(raw[8:]))
	return raw[batchMagicAt] == 2 && length <= maxBatch && batchPrefix+length > len(raw)
}

// holdsBatch searches raw for a correct batch at any position.
func holdsBatch(raw []byte) bool {
	for i := 0; i+batchHeader <= len(raw); i++ {
		if raw[i+batchMagicAt] == 2 {
			if _, ok := wholeBatch(raw[i:]); ok {
				return true
			}
		}
	}
	return false
}

// checkState reads groups.log or pids.log. kfake ignores what follows the first bad entry but appends behind it, so a
// torn entry is cut here; else commits written after it would be lost at the next start.
func checkState(path string, log *slog.Logger) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreadable(err, path)
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return errors.Join(unreadable(err, path), f.Close())
	}
	pos := 0
	for pos+stateHeader <= len(raw) {
		length := int(binary.LittleEndian.Uint32(raw[pos:]))
		if length < 2 || length > len(raw)-pos-stateHeader {
			break
		}
		body := raw[pos+stateHeader : pos+stateHeader+length]
		if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(raw[pos+4:]) {
			break
		}
		pos += stateHeader + length
	}
	tail := raw[pos:]
	if len(tail) == 0 {
		return f.Close()
	}
	torn := len(tail) < stateHeader || int(binary.LittleEndian.Uint32(tail)) > len(tail)-stateHeader
	if !isZero(tail) && (!torn || bytes.Contains(tail[1:], []byte(`{"type":`)) && bytes.Count(tail, []byte(`{"type":`)) > 1) {
		return errors.Join(damaged(path, pos, "entries follow the damage"), f.Close())
	}
	log.Warn("the end of a state file was being written when the process stopped, cutting it", "file", filepath.Base(path), "at", pos, "bytes", len(tail))
	if err := errors.Join(f.Truncate(int64(pos)), f.Sync(), f.Close()); err != nil {
		return unreadable(err, path)
	}
	return durable.SyncDir(filepath.Dir(path))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func isZero(raw []byte) bool { return len(bytes.TrimLeft(raw, "\x00")) == 0 }

func damaged(path string, at int, why string) error {
	return errs.New(errs.Precondition, "kafka_log_damaged", fmt.Sprintf(
		"%s is damaged at byte %d (%s); restore the data directory from a backup, or move it away to start empty", path, at, why))
}

func unreadable(err error, path string) error {
	return errs.Wrap(err, errs.Precondition, "kafka_data_unreadable", fmt.Sprintf("%s cannot be read; check its owner and the disk", path))
}
