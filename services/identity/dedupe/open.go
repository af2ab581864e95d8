package dedupe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// formatVersion is what VERSION in the directory says; a newer one belongs to a newer program.
const formatVersion = 1

const (
	versionFile = "VERSION"
	damagedFile = "DAMAGED"
	dbDir       = "db"
	asideDir    = "db.damaged"
)

// Options bound a Store.
type Options struct {
	// Window is how long an event is remembered.
	Window time.Duration
	// MaxKeys is how many events are remembered at most, in all partitions together.
	MaxKeys int64
	// CacheBytes is the block cache; it is filled by use only.
	CacheBytes int64
	// SweepRate is how many keys a second expiry may look at.
	SweepRate int
}

// DefaultOptions returns the window of the guarantees: 7 days or 200 million events, whichever is less.
func DefaultOptions() Options {
	return Options{Window: 7 * 24 * time.Hour, MaxKeys: 200_000_000, CacheBytes: 64 << 20, SweepRate: 100_000}
}

// Open opens the store in dir, creating it if needed. A damaged one is moved aside, with a warning, and an empty one
// takes its place; the caller sees that by Applied.
//
// It returns Precondition "data_dir_in_use" when another process has dir, "dedupe_newer" when a newer program wrote it.
func Open(log *slog.Logger, dir string, options Options) (*Store, error) {
	unlock, err := durable.LockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log: log, options: options, dir: dir, unlock: unlock,
		partitions: map[int32]*partition{}, broken: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return s, nil
}

// Close writes what is in memory and frees the directory.
func (s *Store) Close() error {
	err := s.closeDB()
	return errors.Join(openError(err, s.dir), s.unlock())
}

func (s *Store) closeDB() error {
	err := s.db.Close()
	s.cache.Unref()
	return err
}

func (s *Store) open() error {
	if err := s.checkVersion(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.dir, damagedFile)); err == nil {
		if err := s.moveAside(pebble.ErrCorruption); err != nil {
			return err
		}
	}
	err := s.tryOpen()
	if err == nil || !isDamage(err) {
		return openError(err, s.dir)
	}
	if err := s.moveAside(err); err != nil {
		return err
	}
	return openError(s.tryOpen(), s.dir)
}

func (s *Store) tryOpen() error {
	cache := pebble.NewCache(s.options.CacheBytes)
	db, err := openPebble(filepath.Join(s.dir, dbDir), s.pebbleOptions(cache))
	if err != nil {
		cache.Unref()
		return err
	}
	s.db, s.cache = db, cache
	clear(s.partitions)
	if err := s.load(); err != nil {
		return errors.Join(err, s.closeDB())
	}
	return nil
}

// openPebble turns the panics with which Pebble answers some damaged files into errors.
func openPebble(dir string, options *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", pebble.ErrCorruption, r)
		}
	}()
	return pebble.Open(dir, options)
}

func (s *Store) pebbleOptions(cache *pebble.Cache) *pebble.Options {
	options := &pebble.Options{
		Cache:                       cache,
		Comparer:                    comparer(),
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 2,
		L0CompactionThreshold:       4,
		MaxOpenFiles:                256,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		BytesPerSync:                1 << 20,
		Logger:                      pebbleLogger{s.log},
		EventListener: &pebble.EventListener{
			// The next call returns its own error; here damage that a compaction finds is marked.
			BackgroundError: func(err error) { _ = s.failed(err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { _ = s.failed(info.Details) },
		},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		options.Levels[i].FilterType = pebble.TableFilter
	}
	// Hashes do not compress, and small files keep the filters, one a file, small.
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range options.TargetFileSizes {
		options.TargetFileSizes[i] = 4 << 20
	}
	return options
}

func (s *Store) load() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for n := int32(0); n <= maxPartition && err == nil; n++ {
		err = s.loadPartition(it, n)
	}
	return errors.Join(err, it.Error(), it.Close())
}

func (s *Store) loadPartition(it *pebble.Iterator, number int32) error {
	// Hashes lie between these keys, so each is looked up by itself.
	if key := partitionKey(metaPrefix, number); !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
		return nil
	}
	p, err := s.partition(number)
	if err != nil {
		return err
	}
	if !p.decodeMeta(it.Value()) {
		return pebble.ErrCorruption
	}
	if key := partitionKey(marksPrefix, number); it.SeekPrefixGE(key) && bytes.Equal(it.Key(), key) && !p.decodeMarks(it.Value()) {
		return pebble.ErrCorruption
	}
	return nil
}

func (s *Store) checkVersion() error {
	path := filepath.Join(s.dir, versionFile)
	text, err := os.ReadFile(path) //nolint:gosec // a fixed name in our own directory
	switch {
	case errors.Is(err, os.ErrNotExist):
		return durable.WriteFileAtomic(path, []byte(strconv.Itoa(formatVersion)+"\n"), 0o600)
	case err != nil:
		return openError(err, s.dir)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil && version > formatVersion {
		return errs.New(errs.Precondition, "dedupe_newer", fmt.Sprintf(
			"%s was written by a newer version of Mekong (format %d, this program knows %d); start that version again, or delete the directory: it is rebuilt from the log",
			s.dir, version, formatVersion))
	}
	if err != nil {
		s.log.Warn("version of the dedupe store is unreadable; taking the current one", "dir", s.dir)
		return durable.WriteFileAtomic(path, []byte(strconv.Itoa(formatVersion)+"\n"), 0o600)
	}
	return nil
}

// moveAside keeps the newest damaged store for a look, and makes room for an empty one.
func (s *Store) moveAside(cause error) error {
	aside := filepath.Join(s.dir, asideDir)
	s.log.Warn("dedupe store is damaged; it is moved aside and rebuilt from the log", "dir", s.dir, "moved_to", aside, "error", cause)
	err := os.RemoveAll(aside)
	if err == nil {
		err = os.Rename(filepath.Join(s.dir, dbDir), aside)
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = os.Remove(filepath.Join(s.dir, damagedFile))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return openError(err, s.dir)
	}
	return durable.SyncDir(s.dir)
}

// failed gives an error of Pebble its kind. All are Unavailable: an event must never be given up for a fault of this
// store. Damage marks the directory, so that the next start rebuilds it.
func (s *Store) failed(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if !isDamage(err) {
		return errs.Wrap(err, errs.Unavailable, "dedupe_failed", "The dedupe store cannot be read or written; check the disk of the data directory")
	}
	s.brokenOnce.Do(func() {
		s.log.Error("dedupe store is damaged; the next start rebuilds it", "dir", s.dir, "error", err)
		if err := durable.WriteFileAtomic(filepath.Join(s.dir, damagedFile), nil, 0o600); err != nil {
			s.log.Error("dedupe store cannot be marked as damaged", "dir", s.dir, "error", err)
		}
		close(s.broken)
	})
	return errs.Wrap(err, errs.Unavailable, "dedupe_damaged", "The dedupe store is damaged; start again, and it is rebuilt from the log")
}

// isDamage tells a store whose files are wrong from a disk that is full, read-only or failing.
func isDamage(err error) bool {
	if pebble.IsCorruptionError(err) {
		return true
	}
	var known *errs.Error
	var disk syscall.Errno
	switch {
	case errors.As(err, &known):
		return false
	case errors.As(err, &disk):
		return disk == syscall.ENOENT // a file that the manifest names is gone
	default:
		return true
	}
}

func openError(err error, dir string) error {
	var known *errs.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(err, errs.Unavailable, "disk_full", fmt.Sprintf("The disk that holds %s is full; make room", dir))
	case errors.Is(err, os.ErrPermission):
		return errs.Wrap(err, errs.Precondition, "no_permission", fmt.Sprintf("This user may not write %s; change its owner or choose another directory", dir))
	default:
		return errs.Wrap(err, errs.Unavailable, "dedupe_open_failed", fmt.Sprintf("The dedupe store in %s cannot be opened", dir))
	}
}

// pebbleLogger passes on what Pebble calls errors; the rest is one line per flush.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("dedupe store reports an error", "detail", fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble calls it where going on would write wrong data.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.log.Error("dedupe store cannot go on", "detail", fmt.Sprintf(format, args...))
	os.Exit(1)
}
