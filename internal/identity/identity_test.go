package identity_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

const someID = "0b9f4a52-6a1e-4c59-9d0e-3f3a1d2c4b5a"

func TestAnIdentifierHasOneSpellingPerLetterCase(t *testing.T) {
	cases := []struct {
		name string
		text string
		want string // empty: refused
	}{
		{"the canonical form is taken", someID, someID},
		{"capital letters are folded", strings.ToUpper(someID), someID},
		{"braces are refused", "{" + someID + "}", ""},
		{"the URN form is refused", "urn:uuid:" + someID, ""},
		{"32 bare digits are refused", strings.ReplaceAll(someID, "-", ""), ""},
		{"36 characters with a misplaced hyphen are refused", "0b9f4a526-a1e-4c59-9d0e-3f3a1d2c4b5a", ""},
		{"a digit that is none is refused", "0b9f4a52-6a1e-4c59-9d0e-3f3a1d2c4b5g", ""},
		{"surrounding space is refused", " " + someID, ""},
		{"nothing is refused", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id, err := identity.ParseUserID(c.text)
			if c.want == "" {
				if !errors.Is(err, identity.ErrNotUUID) || !id.IsZero() {
					t.Fatalf("ParseUserID(%q) = %v, %v; want it refused", c.text, id, err)
				}
				return
			}
			if err != nil || id.String() != c.want {
				t.Errorf("ParseUserID(%q) = %v, %v; want %s", c.text, id, err, c.want)
			}
		})
	}
}

func TestTheTextOfAnIdentifierIsTheSameWhereverItIsPut(t *testing.T) {
	// Every byte, in every place.
	for n := range 256 {
		var id identity.UserID
		for i := range id {
			id[i] = byte(n + i)
		}
		want := "x" + id.String()
		if got := string(id.AppendTo([]byte("x"))); got != want {
			t.Fatalf("appended as %s, want %s", got, want)
		}
		if got := string(identity.CompanyID(id).AppendTo([]byte("x"))); got != want {
			t.Fatalf("appended as %s, want %s", got, want)
		}
	}
}

func FuzzAnAcceptedIdentifierIsItsOwnCanonicalForm(f *testing.F) {
	f.Add(someID)
	f.Add(strings.ToUpper(someID))
	f.Add("{" + someID + "}")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := identity.ParseCompanyID(text)
		if err == nil && !strings.EqualFold(id.String(), text) {
			t.Errorf("%q was read as %s", text, id)
		}
	})
}

func TestRevoked(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	mark := now.Add(-time.Minute).Add(250 * time.Microsecond)
	live := identity.Session{Exists: true, ValidFrom: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	with := func(change func(*identity.Session)) identity.Session { s := live; change(&s); return s }

	cases := []struct {
		name       string
		credential identity.Credential
		standing   identity.Standing
		want       bool
	}{
		{"without session or mark a token stands", identity.Credential{IssuedAt: now}, identity.Standing{}, false},
		{"a token issued before the mark is revoked", identity.Credential{IssuedAt: mark.Add(-time.Second)}, identity.Standing{TokensValidAfter: mark}, true},
		{"a token of the mark's own second is revoked, for its time has no fraction", identity.Credential{IssuedAt: mark.Truncate(time.Second)}, identity.Standing{TokensValidAfter: mark}, true},
		{"a token issued at the mark stands", identity.Credential{IssuedAt: mark}, identity.Standing{TokensValidAfter: mark}, false},
		{"a token that does not say when it was issued falls to any mark", identity.Credential{}, identity.Standing{TokensValidAfter: mark}, true},

		{"a live session stands", identity.Credential{HasSession: true}, identity.Standing{Session: live}, false},
		{"a session that does not exist is revoked", identity.Credential{HasSession: true}, identity.Standing{}, true},
		{"a session that was ended is revoked", identity.Credential{HasSession: true}, identity.Standing{Session: with(func(s *identity.Session) { s.Ended = true })}, true},
		{"a session at its absolute end is revoked", identity.Credential{HasSession: true}, identity.Standing{Session: with(func(s *identity.Session) { s.NotAfter = now })}, true},
		{"a session begun before the mark is revoked", identity.Credential{HasSession: true, IssuedAt: now}, identity.Standing{Session: live, TokensValidAfter: mark}, true},
		{"a session that starts at the mark itself survives it", identity.Credential{HasSession: true}, identity.Standing{Session: with(func(s *identity.Session) { s.ValidFrom = mark }), TokensValidAfter: mark}, false},
		{"with a session the issue time does not count", identity.Credential{HasSession: true, IssuedAt: mark.Add(-time.Hour)}, identity.Standing{Session: with(func(s *identity.Session) { s.ValidFrom = mark }), TokensValidAfter: mark}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.standing.Revoked(c.credential, now); got != c.want {
				t.Errorf("Revoked = %v, want %v", got, c.want)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ana, err := identity.ParseUserID(someID)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name        string
		credential  identity.Credential
		standing    identity.Standing
		legacyUntil time.Time
		want        *problem.Problem
	}{
		{"an active user comes in", identity.Credential{User: ana}, identity.Standing{Exists: true, Active: true}, time.Time{}, nil},
		{"nobody is not found even where the table has a row", identity.Credential{}, identity.Standing{Exists: true, Active: true}, time.Time{}, problem.UserNotFound},
		{"a user that is gone comes before everything else", identity.Credential{User: ana, HasSession: true}, identity.Standing{}, now, problem.UserNotFound},
		{"an inactive user comes before a revoked token", identity.Credential{User: ana, HasSession: true}, identity.Standing{Exists: true}, now, problem.UserInactive},
		{"a token without a key's name ends when legacy tokens do", identity.Credential{User: ana}, identity.Standing{Exists: true, Active: true}, now, problem.TokenRevoked},
		{"a token without a key's name stands until then", identity.Credential{User: ana}, identity.Standing{Exists: true, Active: true}, now.Add(time.Second), nil},
		{"a token that names its key outlives legacy tokens", identity.Credential{User: ana, KeyNamed: true}, identity.Standing{Exists: true, Active: true}, now, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.standing.Admit(c.credential, c.legacyUntil, now); got != c.want {
				t.Errorf("Admit = %v, want %v", got, c.want)
			}
		})
	}
}

func TestNobodyBelongsToNoCompany(t *testing.T) {
	s := identity.Standing{Memberships: []identity.Membership{{Role: "admin"}}}
	if _, ok := s.In(identity.CompanyID{}); ok {
		t.Error("the zero company matched a membership")
	}
}
