package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Argon2idCost is what one argon2id hash costs (RFC 9106 section 3.1).
type Argon2idCost struct {
	MemoryKiB uint32 // m
	Passes    uint32 // t
	Lanes     uint8  // p
}

// defaultArgon2id is above OWASP's floor of 19 MiB and 2 passes.
func defaultArgon2id() Argon2idCost {
	return Argon2idCost{MemoryKiB: 32 << 10, Passes: 3, Lanes: 1}
}

// The bounds of hashes that are computed at all. The upper ones keep a row that
// somebody wrote from taking the machine; the lower ones are the algorithm's
// own and those of libsodium and the PHC reference.
const (
	maxMemoryKiB = 256 << 10
	maxPasses    = 10
	maxLanes     = 16

	saltLength    = 16 // of new hashes, bytes
	minSaltLength = 8
	maxSaltLength = 64

	keyLength    = 32 // of new hashes, bytes
	minKeyLength = 16
	maxKeyLength = 64
)

func (c Argon2idCost) lawful() bool {
	return c.Lanes >= 1 && c.Lanes <= maxLanes && c.Passes >= 1 && c.Passes <= maxPasses &&
		c.MemoryKiB >= 8*uint32(c.Lanes) && c.MemoryKiB <= maxMemoryKiB
}

func (c Argon2idCost) work() uint64 { return uint64(c.MemoryKiB) * uint64(c.Passes) }

// weakerThan compares memory and the product of memory and passes: a hash of
// less memory but more passes is cheaper to attack in hardware.
func (c Argon2idCost) weakerThan(d Argon2idCost) bool {
	return c.MemoryKiB < d.MemoryKiB || c.work() < d.work()
}

type argon2idHash struct {
	cost Argon2idCost
	salt []byte
	key  []byte
}

func newArgon2id(password string, cost Argon2idCost) argon2idHash {
	h := argon2idHash{cost: cost, salt: random(saltLength)}
	h.key = h.derive(password, keyLength)
	return h
}

func (h argon2idHash) derive(password string, length int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.cost.Passes, h.cost.MemoryKiB, h.cost.Lanes, uint32(length))
}

func (h argon2idHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password, len(h.key)), h.key) == 1
}

func (h argon2idHash) scheme() Scheme    { return Argon2id }
func (h argon2idHash) memoryKiB() uint32 { return h.cost.MemoryKiB }
func (h argon2idHash) work() uint64      { return h.cost.work() }

// String is the PHC string format: base64 of the standard alphabet, unpadded.
func (h argon2idHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.cost.MemoryKiB, h.cost.Passes, h.cost.Lanes,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

// parseArgon2id accepts exactly the strings that String makes: it reads the
// fields leniently and then compares the whole with its own rendering, so that
// leading zeros, signs, other orders, line breaks within the base64 and unused
// bits all fall out of one comparison.
func parseArgon2id(text string) (stored, bool) {
	parts := strings.Split(text, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, key
	if len(parts) != 6 {
		return nil, false
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return nil, false
	}
	m, mOK := number(costs[0], "m=", 32)
	t, tOK := number(costs[1], "t=", 32)
	p, pOK := number(costs[2], "p=", 8)
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	h := argon2idHash{cost: Argon2idCost{MemoryKiB: uint32(m), Passes: uint32(t), Lanes: uint8(p)}, salt: salt, key: key}
	if !mOK || !tOK || !pOK || saltErr != nil || keyErr != nil || !h.cost.lawful() ||
		len(salt) < minSaltLength || len(salt) > maxSaltLength ||
		len(key) < minKeyLength || len(key) > maxKeyLength ||
		h.String() != text {
		return nil, false
	}
	return h, true
}

func number(text, prefix string, bits int) (uint64, bool) {
	digits, found := strings.CutPrefix(text, prefix)
	n, err := strconv.ParseUint(digits, 10, bits)
	return n, found && err == nil
}

// random returns bytes that nobody knows. crypto/rand ends the process rather
// than return an error (since Go 1.24).
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
