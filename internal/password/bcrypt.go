package password

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"golang.org/x/crypto/bcrypt"
)

const (
	// LegacyBcryptCost is what the replaced gateways used.
	LegacyBcryptCost = 12

	minBcryptCost = 4
	maxBcryptCost = 14 // about a second; each further step doubles it
	// bcryptLimit is how many bytes of a password bcrypt looks at. Go's
	// implementation drops the rest silently when it compares.
	bcryptLimit = 72
)

// bcryptForm leaves out what x/crypto/bcrypt would accept beyond the three
// prefixes: $2x$ marks hashes made by a broken implementation, $2$ has no
// defined treatment of non-ASCII characters.
var bcryptForm = regexp.MustCompile(`\A\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}\z`)

type bcryptHash struct {
	text string
	cost int
}

func parseBcrypt(text string) (stored, bool) {
	m := bcryptForm.FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	cost, err := strconv.Atoi(m[1])
	return bcryptHash{text: text, cost: cost}, err == nil
}

func newBcrypt(password string, cost int) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", ErrTooLong
	}
	if err != nil {
		return "", fmt.Errorf("hashing with bcrypt: %w", err)
	}
	return string(hash), nil
}

// decoyBcrypt makes the text of a hash from random characters of bcrypt's
// alphabet: 22 of salt, 31 of digest, which no known password produces.
func decoyBcrypt(cost int) bcryptHash {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	tail := random(53)
	for i, b := range tail {
		tail[i] = alphabet[b&63]
	}
	return bcryptHash{text: fmt.Sprintf("$2b$%02d$%s", cost, tail), cost: cost}
}

func (h bcryptHash) matches(password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(h.text), []byte(password)) == nil
}

func (h bcryptHash) scheme() Scheme    { return Bcrypt }
func (h bcryptHash) memoryKiB() uint32 { return 4 }
func (h bcryptHash) work() uint64      { return 1 << h.cost }
