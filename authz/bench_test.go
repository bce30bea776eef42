package authz_test

import (
	"context"
	"slices"
	"testing"
	"time"

	jwtv5 "github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/authz/activity"
	"github.com/atenex/gatehouse/authz/verified"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// memory is what is known without asking, as a function.
type memory func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool)

func (m memory) Peek(u identity.UserID, s identity.SessionID, c identity.CompanyID, _ time.Time) (identity.Standing, bool) {
	return m(u, s, c)
}

// store is a database that costs nothing.
type store identity.Standing

func (s store) Standings(_ context.Context, questions []identity.Question) ([]identity.Standing, error) {
	return slices.Repeat([]identity.Standing{identity.Standing(s)}, len(questions)), nil
}

// A check between the bytes that Envoy sends and those that it gets, by each path,
// with a token that was not seen before and a directory that costs nothing.
func BenchmarkColdTokenCheck(b *testing.B) {
	for _, c := range []struct {
		name string
		path func(*authz.Gate)
	}{
		{"fast path", func(*authz.Gate) {}},
		{"ordinary path", (*authz.Gate).OrdinaryPathOnly},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchmark(b, options(b, token.Rules{}, saying(member())), c.path, inCompany())
		})
	}
}

// The same where the token is wrong, or where there is none.
func BenchmarkRefusal(b *testing.B) {
	for _, c := range []struct{ name, authorization string }{
		{"no token", ""},
		{"wrong signature", inCompany()[:len(inCompany())-4] + "AAAA"},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchmark(b, options(b, token.Rules{}, saying(member())), func(*authz.Gate) {}, c.authorization)
		})
	}
}

// The same with the caches that we ship, and a token and a user that both know.
func BenchmarkWarmCheck(b *testing.B) {
	o := options(b, token.Rules{}, saying(member()))
	o.Clock = time.Now
	plain := o.Verifier
	tokens, err := verified.New(verified.Options{
		Verifier:   verifier(func(raw string, _ time.Time) (identity.Credential, error) { return plain.Verify(raw, now) }),
		Registerer: o.Registerer,
	})
	if err != nil {
		b.Fatal(err)
	}
	users, err := activity.New(activity.Options{
		Store:       store(member()),
		ProofOfLife: time.Hour,
		Registerer:  o.Registerer,
		Logger:      o.Logger,
	})
	if err != nil {
		b.Fatal(err)
	}
	users.Flush()
	users.Alive(time.Now())
	o.Verifier, o.Directory, o.Memory = tokens, users, users
	benchmark(b, o, func(*authz.Gate) {}, inCompany())
}

func benchmark(b *testing.B, o authz.Options, path func(*authz.Gate), authorization string) {
	b.Helper()
	if o.Memory == nil {
		known := member()
		o.Memory = memory(func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool) {
			return known, true
		})
	}
	g := newGate(b, o)
	path(g)
	asked, err := proto.Marshal(asEnvoySends(authorization))
	if err != nil {
		b.Fatal(err)
	}
	text, into := string(asked), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if len(g.Answer(b.Context(), text, into)) == 0 {
			b.Fatal("no answer")
		}
	}
}

// What an ordinary server does with a token before it can ask about its user.
func BenchmarkGolangJWT(b *testing.B) {
	raw := inCompany()[len("Bearer "):]
	parser := jwtv5.NewParser(jwtv5.WithValidMethods([]string{"HS256"}), jwtv5.WithTimeFunc(func() time.Time { return now }))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parser.Parse(raw, func(*jwtv5.Token) (any, error) { return []byte(secret), nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	o := options(b, token.Rules{}, saying(member()))
	raw := inCompany()[len("Bearer "):]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Verifier.Verify(raw, now); err != nil {
			b.Fatal(err)
		}
	}
}

// A warm check beside a recorder that wants nothing of it, and beside one that
// takes everything.
func BenchmarkRecordedCheck(b *testing.B) {
	for _, c := range []struct {
		name  string
		wants bool
	}{{"not wanted", false}, {"recorded", true}} {
		b.Run(c.name, func(b *testing.B) {
			o := options(b, token.Rules{}, saying(member()))
			plain := o.Verifier.(*token.Verifier)
			credential, err := plain.Verify(inCompany()[len("Bearer "):], now)
			if err != nil {
				b.Fatal(err)
			}
			o.Verifier, o.Tokens = verifier(func(string, time.Time) (identity.Credential, error) { return credential, nil }), plain
			o.Recorder = forgetful(c.wants)
			benchmark(b, o, func(*authz.Gate) {}, inCompany())
		})
	}
}

// forgetful is a recorder that keeps nothing.
type forgetful bool

func (f forgetful) Wants(gatehousev1.Outcome) bool { return bool(f) }
func (forgetful) Record(*gatehousev1.Decision)     {}
