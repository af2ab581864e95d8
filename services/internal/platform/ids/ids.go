package ids

import (
	"encoding/binary"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"
)

// New returns a UUIDv7: ordered by time of creation.
func New() string { return uuid.Must(uuid.NewV7()).String() }

// V5 returns the UUIDv5 of parts within space. Each part is length-prefixed, so that ("ab","c") and ("a","bc") differ.
func V5(space uuid.UUID, parts ...string) string {
	return uuid.NewSHA1(space, framed(nil, parts)).String()
}

// Hash is 128 bits, big-endian.
type Hash [16]byte

// Hash128 returns the xxh3 128-bit hash of parts, each length-prefixed. It is not a secret: where a value must not be
// guessed, hash it with a key first.
func Hash128(parts ...string) Hash {
	var stack [256]byte
	return xxh3.Hash128(framed(stack[:0], parts)).Bytes()
}

// Valid reports whether s is a UUID in its canonical form of 36 characters.
func Valid(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil
}

func framed(buf []byte, parts []string) []byte {
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	return buf
}
