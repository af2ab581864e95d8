package admin

import "time"

// nextRevision returns the revision that follows previous. It is the time, unless the clock went back: revisions then
// rise even for a thing whose row was lost or purged and made anew under the same id, and readers that still hold the
// old one take the new one.
func nextRevision(previous int64, now time.Time) int64 {
	return max(previous+1, now.UnixMicro())
}
