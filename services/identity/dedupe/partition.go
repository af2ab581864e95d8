package dedupe

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// mark says that the record at Offset was the first of its hour, and everything below it is older.
type mark struct {
	Hour   int64 // hours since 1970; 0 when the age is unknown
	Offset int64
}

const markSize = 16

// partition is what the store knows about one input partition besides its keys.
type partition struct {
	// writing makes one writer at a time; readers of the fields below take mu only.
	writing sync.Mutex
	// keys is how many keys the partition has; after a crash it may be off by what was then being swept.
	keys atomic.Int64

	mu      sync.Mutex
	applied int64
	marks   []mark
}

func newPartition() *partition { return &partition{applied: -1} }

func (p *partition) appliedOffset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// markHour notes the hour of at for offset and reports whether that is a new mark. Time never runs backwards here: a
// record of an earlier hour belongs to the newest.
func (p *partition) markHour(at time.Time, offset int64) bool {
	hour := at.Unix() / 3600
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.marks); n > 0 && (hour <= p.marks[n-1].Hour || offset <= p.marks[n-1].Offset) {
		return false
	}
	p.marks = append(p.marks, mark{Hour: hour, Offset: offset})
	return true
}

// floor is an offset below which keys are given up, and the hour at which what is kept begins (0: that of its mark).
type floor struct {
	offset int64
	hour   int64
}

// expired returns the floor below which all records are from before cutoff; false when there are none.
func (p *partition) expired(cutoff time.Time) (floor, bool) {
	limit := cutoff.Unix() / 3600
	p.mu.Lock()
	defer p.mu.Unlock()
	f := floor{hour: limit}
	for i, m := range p.marks {
		hour := m.Hour
		if hour == 0 {
			if i+1 == len(p.marks) {
				break
			}
			hour = p.marks[i+1].Hour
		}
		if hour >= limit {
			break
		}
		f.offset = p.applied + 1
		if i+1 < len(p.marks) {
			f.offset = p.marks[i+1].Offset
		}
	}
	return f, len(p.marks) > 0 && f.offset > p.marks[0].Offset
}

// floorFor returns the offset below which about excess keys lie, supposing that they are spread evenly.
func (p *partition) floorFor(excess, keys int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if keys <= 0 || excess <= 0 || p.applied < 0 {
		return 0
	}
	lowest := int64(0)
	if len(p.marks) > 0 {
		lowest = p.marks[0].Offset
	}
	span := p.applied + 1 - lowest
	return min(p.applied+1, lowest+int64(float64(span)*float64(excess)/float64(keys))+1)
}

// forget drops the marks of hours that lie wholly below f and lets the window begin there.
func (p *partition) forget(f floor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := 0
	for dropped+1 < len(p.marks) && p.marks[dropped+1].Offset <= f.offset {
		dropped++
	}
	p.marks = append([]mark(nil), p.marks[dropped:]...)
	if len(p.marks) == 0 {
		return
	}
	first := &p.marks[0]
	first.Offset = max(first.Offset, f.offset)
	switch {
	case f.hour > first.Hour:
		first.Hour = f.hour
	case f.hour > 0 && f.hour < first.Hour:
		// Nothing came in between: the window still reaches back to then.
		p.marks = append([]mark{{Hour: f.hour, Offset: first.Offset}}, p.marks...)
	}
}

func (p *partition) oldestHour() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.marks {
		if m.Hour > 0 {
			return time.Unix(m.Hour*3600, 0), true
		}
	}
	return time.Time{}, false
}

func (p *partition) encodeMeta(applied int64) []byte {
	buf := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(applied+1)) //nolint:gosec // offsets are not below -1
	return binary.BigEndian.AppendUint64(buf, uint64(max(0, p.keys.Load())))     //nolint:gosec // not negative
}

func (p *partition) decodeMeta(buf []byte) bool {
	if len(buf) != 16 {
		return false
	}
	p.applied = int64(binary.BigEndian.Uint64(buf)) - 1   //nolint:gosec // as written
	p.keys.Store(int64(binary.BigEndian.Uint64(buf[8:]))) //nolint:gosec // as written
	return p.applied >= -1 && p.keys.Load() >= 0
}

func (p *partition) encodeMarks() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	buf := make([]byte, 0, len(p.marks)*markSize)
	for _, m := range p.marks {
		buf = binary.BigEndian.AppendUint64(buf, uint64(m.Hour))   //nolint:gosec // hours since 1970
		buf = binary.BigEndian.AppendUint64(buf, uint64(m.Offset)) //nolint:gosec // offsets are not negative
	}
	return buf
}

func (p *partition) decodeMarks(buf []byte) bool {
	if len(buf)%markSize != 0 {
		return false
	}
	for ; len(buf) > 0; buf = buf[markSize:] {
		p.marks = append(p.marks, mark{
			Hour:   int64(binary.BigEndian.Uint64(buf)),     //nolint:gosec // as written
			Offset: int64(binary.BigEndian.Uint64(buf[8:])), //nolint:gosec // as written
		})
	}
	return true
}
