package collector

import (
	"strconv"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/collector/jsonscan"
)

// parseTime reads ISO 8601 with or without a zone (then UTC), or a Unix time in seconds or milliseconds.
func parseTime(v jsonscan.Value) (time.Time, bool) {
	s := strings.TrimSpace(v.Text())
	if v.Kind == jsonscan.Number {
		return unixTime(s)
	}
	if v.Kind != jsonscan.String {
		return time.Time{}, false
	}
	// RFC3339 has a fast path in package time; it accepts fractions as well.
	t, err := time.Parse(time.RFC3339, s)
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700", time.DateOnly} {
		if err == nil {
			break
		}
		t, err = time.Parse(layout, s)
	}
	// Year 0 parses and cannot be stored.
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

func unixTime(s string) (time.Time, bool) {
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || f < 0 || f >= 253402300800000:
		return time.Time{}, false
	case f >= 1e11:
		return time.UnixMicro(int64(f * 1e3)).UTC(), true
	default:
		return time.UnixMicro(int64(f * 1e6)).UTC(), true
	}
}

// earliest is the oldest time that is taken for real: older clocks were never set.
func earliest() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// correct sets Time: the sender's own time, moved by what its clock was off when it sent (Segment's formula); absurd
// results and absent times are the time of receipt.
func (e *Event) correct(received time.Time, maxFuture time.Duration) {
	e.Time = received
	if e.OriginalTime.IsZero() {
		return
	}
	e.Time = e.OriginalTime
	if !e.SentAt.IsZero() {
		e.Time = received.Add(-e.SentAt.Sub(e.OriginalTime))
	}
	if e.Time.Before(earliest()) || e.Time.After(received.Add(maxFuture)) {
		e.Time, e.TimeClamped = received, true
	}
}
