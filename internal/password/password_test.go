package password_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/atenex/gatehouse/internal/password"
)

// cheap is a lawful cost that makes tests fast.
var cheap = password.Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1}

func newHasher(t *testing.T, o password.Options) *password.Hasher {
	t.Helper()
	if o.Argon2id == (password.Argon2idCost{}) {
		o.Argon2id = cheap
	}
	if o.BcryptCost == 0 {
		o.BcryptCost = 4
	}
	h, err := password.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func verify(t *testing.T, h *password.Hasher, hash, text string) password.Match {
	t.Helper()
	permit, err := h.Admit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Release()
	return permit.Verify(hash, text)
}

func bcryptOf(t *testing.T, text string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(text), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// Published vectors: Openwall crypt_blowfish 1.3 (wrapper.c) and the PHC
// reference implementation of argon2 (test.c).
const (
	vectorBcrypt      = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	vectorBcryptText  = "U*U"
	vectorArgon2      = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	vectorArgon2Text  = "password"
	vectorArgon2Head  = "$argon2id$v=19$m=256,t=2,p=1$"
	vectorArgon2Key   = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	vectorArgon2Salt  = "c29tZXNhbHQ"
	vectorArgon2Param = "m=256,t=2,p=1"
)

func TestWhichHashesVerify(t *testing.T) {
	swap := func(old, new string) string {
		s := strings.Replace(vectorArgon2, old, new, 1)
		if s == vectorArgon2 {
			t.Fatalf("%q is not in the vector", old)
		}
		return s
	}
	long := strings.Repeat("a", 72)
	tests := []struct {
		name string
		hash string
		text string
		want bool
	}{
		{"bcrypt 2a verifies", vectorBcrypt, vectorBcryptText, true},
		{"bcrypt 2b verifies", strings.Replace(vectorBcrypt, "$2a$", "$2b$", 1), vectorBcryptText, true},
		{"bcrypt 2y verifies", strings.Replace(vectorBcrypt, "$2a$", "$2y$", 1), vectorBcryptText, true},
		{"bcrypt 2x is unusable", strings.Replace(vectorBcrypt, "$2a$", "$2x$", 1), vectorBcryptText, false},
		{"bcrypt without a minor version is unusable", strings.Replace(vectorBcrypt, "$2a$", "$2$", 1), vectorBcryptText, false},
		{"another password does not match bcrypt", vectorBcrypt, "U*V", false},
		{"the case of a password counts", bcryptOf(t, "Secret words", 4), "secret words", false},
		{"a password is not trimmed", bcryptOf(t, "some words", 4), "some words ", false},
		{"a password is not normalised", bcryptOf(t, "caf\u00e9 words", 4), "cafe\u0301 words", false},
		{"bcrypt at cost 3 is unusable", strings.Replace(vectorBcrypt, "$05$", "$03$", 1), vectorBcryptText, false},
		{"bcrypt at cost 15 is unusable", strings.Replace(vectorBcrypt, "$05$", "$15$", 1), vectorBcryptText, false},
		{"bcrypt at cost 31 is unusable", strings.Replace(vectorBcrypt, "$05$", "$31$", 1), vectorBcryptText, false},
		{"bcrypt with a line break behind it is unusable", vectorBcrypt + "\n", vectorBcryptText, false},
		{"bcrypt cut short is unusable", vectorBcrypt[:59], vectorBcryptText, false},
		{"bcrypt repeats its key with a NUL, so a NUL never matches", bcryptOf(t, "abcdefgh", 4), "abcdefgh\x00abcdefgh", false},
		{"bcrypt of 72 bytes verifies", bcryptOf(t, long, 4), long, true},
		{"bcrypt stops at 72 bytes, so more never matches", bcryptOf(t, long, 4), long + "XYZ", false},
		{"argon2id verifies", vectorArgon2, vectorArgon2Text, true},
		{"another password does not match argon2id", vectorArgon2, "passwore", false},
		{"a NUL never matches argon2id", vectorArgon2, vectorArgon2Text + "\x00", false},
		{"argon2i is unusable", swap("argon2id", "argon2i"), vectorArgon2Text, false},
		{"the older version 16 is unusable", swap("v=19", "v=16"), vectorArgon2Text, false},
		{"no version is unusable", swap("$v=19", ""), vectorArgon2Text, false},
		{"a leading zero is unusable", swap("m=256", "m=0256"), vectorArgon2Text, false},
		{"a sign is unusable", swap("t=2", "t=+2"), vectorArgon2Text, false},
		{"another order is unusable", swap(vectorArgon2Param, "t=2,m=256,p=1"), vectorArgon2Text, false},
		{"a fourth parameter is unusable", swap("p=1", "p=1,data=AA"), vectorArgon2Text, false},
		{"padded base64 is unusable", vectorArgon2 + "=", vectorArgon2Text, false},
		{"base64 broken over lines is unusable", swap("/uIP", "\n/uIP"), vectorArgon2Text, false},
		{"set bits that base64 leaves unused are unusable", swap("Gi/4", "Gi/5"), vectorArgon2Text, false},
		{"another base64 alphabet is unusable", swap("QMR/", "QMR_"), vectorArgon2Text, false},
		{"a field behind the key is unusable", vectorArgon2 + "$", vectorArgon2Text, false},
		{"an empty key is unusable", vectorArgon2Head + vectorArgon2Salt + "$", "", false},
		{"a key of 15 bytes is unusable", vectorArgon2Head + vectorArgon2Salt + "$" + vectorArgon2Key[:20], vectorArgon2Text, false},
		{"a salt of 4 bytes is unusable", vectorArgon2Head + "c29tZQ$" + vectorArgon2Key, vectorArgon2Text, false},
		{"no memory is unusable", swap("m=256", "m=0"), vectorArgon2Text, false},
		{"less than 8 KiB for each lane is unusable", swap(vectorArgon2Param, "m=64,t=1,p=9"), vectorArgon2Text, false},
		{"more than 256 MiB is unusable", swap("m=256", "m=262145"), vectorArgon2Text, false},
		{"a memory that overflows is unusable", swap("m=256", "m=4294967552"), vectorArgon2Text, false},
		{"no pass is unusable", swap("t=2", "t=0"), vectorArgon2Text, false},
		{"more than 10 passes are unusable", swap("t=2", "t=11"), vectorArgon2Text, false},
		{"no lane is unusable", swap("p=1", "p=0"), vectorArgon2Text, false},
		{"more than 16 lanes are unusable", swap(vectorArgon2Param, "m=256,t=2,p=17"), vectorArgon2Text, false},
		{"no hash is unusable", "", "", false},
		{"an exclamation mark is unusable", "!", "!", false},
		{"the password itself is unusable", "plain words", "plain words", false},
		{"md5-crypt is unusable", "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "password", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			h := newHasher(t, password.Options{Metrics: registry})
			if got := verify(t, h, tt.hash, tt.text).OK; got != tt.want {
				t.Errorf("match = %v, want %v", got, tt.want)
			}
			if n := hashesComputed(t, registry); n != 1 {
				t.Errorf("%d hashes were computed, want exactly 1: anything else can be seen on a clock", n)
			}
		})
	}
}

func hashesComputed(t *testing.T, g prometheus.Gatherer) uint64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, f := range families {
		if f.GetName() == "gatehouse_login_hash_seconds" {
			for _, m := range f.GetMetric() {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}

func TestUpgrades(t *testing.T) {
	long := strings.Repeat("a", 72)
	current, err := newHasher(t, password.Options{}).Hash(t.Context(), "some words")
	if err != nil {
		t.Fatal(err)
	}
	strong := password.Argon2idCost{MemoryKiB: 256, Passes: 2, Lanes: 1}
	tests := []struct {
		name    string
		options password.Options
		hash    string
		text    string
		want    password.Match
	}{
		{"a bcrypt hash is upgraded to argon2id", password.Options{Upgrade: true}, bcryptOf(t, "some words", 4), "some words", password.Match{OK: true, Upgrade: true}},
		{"nothing is upgraded unless asked", password.Options{}, bcryptOf(t, "some words", 4), "some words", password.Match{OK: true}},
		{"a wrong password upgrades nothing", password.Options{Upgrade: true}, bcryptOf(t, "some words", 4), "other words", password.Match{}},
		{"a current hash stays", password.Options{Upgrade: true}, current, "some words", password.Match{OK: true}},
		{"a cheaper argon2id hash is upgraded", password.Options{Upgrade: true, Argon2id: strong}, current, "some words", password.Match{OK: true, Upgrade: true}},
		{"a dearer argon2id hash stays", password.Options{Upgrade: true}, vectorArgon2Head + "c29tZXNhbHRzb21lc2FsdA$" + argonKey(), vectorArgon2Text, password.Match{OK: true}},
		{"a short salt is upgraded", password.Options{Upgrade: true}, vectorArgon2, vectorArgon2Text, password.Match{OK: true, Upgrade: true}},
		{"a cheaper bcrypt hash is upgraded", password.Options{Upgrade: true, Scheme: password.Bcrypt, BcryptCost: 5}, bcryptOf(t, "some words", 4), "some words", password.Match{OK: true, Upgrade: true}},
		{"an equal bcrypt hash stays", password.Options{Upgrade: true, Scheme: password.Bcrypt}, bcryptOf(t, "some words", 4), "some words", password.Match{OK: true}},
		{"an argon2id hash stays where bcrypt is current", password.Options{Upgrade: true, Scheme: password.Bcrypt}, current, "some words", password.Match{OK: true}},
		{"a long password matches bcrypt only where cutting is allowed", password.Options{Upgrade: true, BcryptTruncate72: true}, bcryptOf(t, long, 4), long + "XYZ", password.Match{OK: true}},
		{"72 bytes that may be the head of a longer password upgrade nothing", password.Options{Upgrade: true, BcryptTruncate72: true}, bcryptOf(t, long, 4), long, password.Match{OK: true}},
		{"a shorter password is upgraded where cutting is allowed", password.Options{Upgrade: true, BcryptTruncate72: true}, bcryptOf(t, long[:71], 4), long[:71], password.Match{OK: true, Upgrade: true}},
		{"the first 72 bytes must be right where cutting is allowed", password.Options{Upgrade: true, BcryptTruncate72: true}, bcryptOf(t, long, 4), "b" + long, password.Match{}},
		{"a NUL beyond the cut is still a NUL", password.Options{BcryptTruncate72: true}, bcryptOf(t, long, 4), long + "X\x00Z", password.Match{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := verify(t, newHasher(t, tt.options), tt.hash, tt.text); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// argonKey is the key of vectorArgon2Text for the vector's cost and a salt of
// 16 bytes, "somesaltsomesalt".
func argonKey() string {
	return base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(vectorArgon2Text), []byte("somesaltsomesalt"), 2, 256, 1, 32))
}

func TestNewHashes(t *testing.T) {
	tests := []struct {
		name   string
		scheme password.Scheme
		text   string
		want   string // how the hash begins
		err    error
	}{
		{"the default scheme is argon2id", "", "some words", "$argon2id$v=19$m=64,t=1,p=1$", nil},
		{"bcrypt can be chosen", password.Bcrypt, "some words", "$2a$04$", nil},
		{"a NUL is refused by argon2id", "", "some\x00words", "", password.ErrNUL},
		{"a NUL is refused by bcrypt", password.Bcrypt, "some\x00words", "", password.ErrNUL},
		{"bcrypt refuses what it would cut", password.Bcrypt, strings.Repeat("a", 73), "", password.ErrTooLong},
		{"argon2id takes 1024 characters of four bytes", "", strings.Repeat("\U0001F511", 1024), "$argon2id$", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHasher(t, password.Options{Scheme: tt.scheme, Upgrade: true})
			hash, err := h.Hash(t.Context(), tt.text)
			if !errors.Is(err, tt.err) || !strings.HasPrefix(hash, tt.want) {
				t.Fatalf("got %q, %v, want %q…, %v", hash, err, tt.want, tt.err)
			}
			if err != nil {
				return
			}
			if got := verify(t, h, hash, tt.text); got != (password.Match{OK: true}) {
				t.Errorf("the new hash gives %+v", got)
			}
			if got := verify(t, h, hash, tt.text+"x"); got.OK {
				t.Error("the new hash matches another password")
			}
		})
	}
}

func TestTheDefaultCost(t *testing.T) {
	h, err := password.New(password.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := h.Hash(t.Context(), "some words")
	if err != nil {
		t.Fatal(err)
	}
	if want := "$argon2id$v=19$m=32768,t=3,p=1$"; !strings.HasPrefix(hash, want) {
		t.Errorf("got %q, want %q…", hash, want)
	}
	if salt, key := len(strings.Split(hash, "$")[4]), len(strings.Split(hash, "$")[5]); salt != 22 || key != 43 {
		t.Errorf("salt and key are %d and %d characters, want 22 and 43", salt, key)
	}
}

func TestOptionsOutOfBounds(t *testing.T) {
	for name, o := range map[string]password.Options{
		"an unknown scheme":     {Scheme: "md5"},
		"too much memory":       {Argon2id: password.Argon2idCost{MemoryKiB: 1 << 20, Passes: 1, Lanes: 1}},
		"no pass":               {Argon2id: password.Argon2idCost{MemoryKiB: 1 << 10, Lanes: 1}},
		"bcrypt that is absurd": {BcryptCost: 15},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := password.New(o); err == nil {
				t.Error("was accepted")
			}
		})
	}
}

func TestMetricsStartAtZero(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	newHasher(t, password.Options{Metrics: registry})
	n, err := testutil.GatherAndCount(registry, "gatehouse_login_hash_seconds", "gatehouse_login_hash_queue_seconds", "gatehouse_login_hash_inflight")
	if err != nil {
		t.Fatal(err)
	}
	if n != 4 {
		t.Errorf("%d series, want 4: both schemes, the queue, those in flight", n)
	}
}

// Whatever stands in the column, judging it neither panics nor succeeds without
// the password that it is of.
func FuzzStoredHash(f *testing.F) {
	for _, seed := range []string{"", "!", vectorBcrypt, vectorArgon2, "$argon2id$v=19$m=8,t=1,p=1$$", "$2b$04$"} {
		f.Add(seed)
	}
	h, err := password.New(password.Options{Argon2id: cheap, BcryptCost: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		if verify(t, h, hash, "no hash is of this").OK {
			t.Errorf("%q matches", hash)
		}
	})
}
