package authz_test

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// Were the fast path to give up on what Envoy sends, everything would still be
// right, and slow.
func TestWhatEnvoySendsTakesTheFastPath(t *testing.T) {
	cases := []struct {
		name string
		in   *authv3.CheckRequest
		user authz.Directory
		want [2]bool // reads, writes
	}{
		{"an allow", asEnvoySends(inCompany()), saying(member()), [2]bool{true, true}},
		{"no token", asEnvoySends(""), saying(member()), [2]bool{true, true}},
		{"a wrong token", asEnvoySends("Bearer x"), saying(member()), [2]bool{true, true}},
		{"a refusal by what is known of the user", asEnvoySends(inCompany()), saying(identity.Standing{}), [2]bool{true, true}},
		{"a route that asks for roles", request(inCompany(), extension("roles", "admin, user")), saying(member()), [2]bool{true, true}},
		{"an open route", request("", extension("auth_mode", "none")), saying(member()), [2]bool{true, true}},
		{"a refusal that names a claim is written the ordinary way", asEnvoySends("Bearer " + jwt(plainHeader, `{"iat":1}`)), saying(member()), [2]bool{true, false}},
		{"encode_raw_headers is read the ordinary way", request(inCompany(), rawHeaders()), saying(member()), [2]bool{false, false}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reads, writes := newGate(t, options(t, token.Rules{}, c.user)).TakesTheFastPath(t.Context(), wire(t, c.in))
			if got := [2]bool{reads, writes}; got != c.want {
				t.Errorf("reads, writes: %v, want %v", got, c.want)
			}
		})
	}
}

// Some messages are more than one way to say the same, and some are none. gRPC
// brings whatever is sent.
func TestUnusualBytesAreDecidedLikeAnyOther(t *testing.T) {
	whole := wire(t, asEnvoySends(inCompany()))
	cases := []struct {
		name, asked string
		want        string
	}{
		{"a message", whole, "ok"},
		{"no bytes", "", "not_authenticated"},
		{"a message in two halves, which are one", wire(t, request("", extension("route", ""))) + wire(t, request(inCompany())), "ok"},
		{"an unknown field before it", "\xfa\x01\x03abc" + whole, "ok"},
		{"an unknown group before it", "\xfb\x01\xfc\x01" + whole, "ok"},
		{"a length that is longer than it need be", "\x0a" + padded(len(whole)-3) + whole[3:], "ok"},
		{"a piece of a message", whole[:len(whole)-1], "internal"},
		{"garbage", "\xff\xff\xff", "internal"},
		{"a token that is no text", strings.Replace(whole, "gate.test", "gate\xfftest", 1), "internal"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := reason(alike(t, bothPaths(t, options(t, token.Rules{}, saying(member()))), c.asked)); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}

// padded is n as a varint of five bytes.
func padded(n int) string {
	return string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n>>14) | 0x80, 0x80, 0})
}

// Property: of the same bytes, the fast path and the ordinary one say the same, to
// the last field of the answer.
func FuzzBothPathsDecideAlike(f *testing.F) {
	for _, in := range []*authv3.CheckRequest{
		asEnvoySends(inCompany()), asEnvoySends(""), asEnvoySends("Bearer x"), {},
		request(inCompany(), rawHeaders()),
		request("", extension("auth_mode", "none")),
		request(inCompany(), extension("roles", "admin, user"), method("OPTIONS")),
	} {
		f.Add([]byte(wire(f, in)))
	}
	gates := bothPaths(f, options(f, token.Rules{}, saying(member())))
	f.Fuzz(func(t *testing.T, asked []byte) { alike(t, gates, string(asked)) })
}

// Property: the same holds of whatever stands in the parts that are read, with
// users of any email.
func FuzzBothPathsAnswerAlike(f *testing.F) {
	f.Add(inCompany(), "strict", "query", "", "GET", "request-1", "ana@x.test")
	f.Add("", "none", strings.Repeat("r", 70), "", "OPTIONS", "a b", "")
	f.Add(inCompany(), "initial", "\x01", "user", "POST", strings.Repeat("i", 70), "é@x.test")
	f.Add(bearer(""), "", "", ", ", "OPTIONS", "", strings.Repeat("e", 321))
	user := member()
	gates := bothPaths(f, options(f, token.Rules{}, directory(
		func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
			return user, nil
		})))
	f.Fuzz(func(t *testing.T, authorization, mode, route, roles, verb, id, email string) {
		user.Email = email
		in := request(authorization, method(verb), extension("auth_mode", mode), extension("route", route), extension("roles", roles))
		in.Attributes.Request.Http.Headers["x-request-id"] = id
		if asked, err := proto.Marshal(in); err == nil {
			alike(t, gates, string(asked))
		}
	})
}

// bothPaths are a gate with the fast path and one without it.
func bothPaths(t testing.TB, o authz.Options) [2]*authz.Gate {
	t.Helper()
	quick := newGate(t, o)
	o.Registerer = prometheus.NewRegistry()
	ordinary := newGate(t, o)
	ordinary.OrdinaryPathOnly()
	return [2]*authz.Gate{quick, ordinary}
}

// alike asks both, and returns what both say.
func alike(t testing.TB, gates [2]*authz.Gate, asked string) *authv3.CheckResponse {
	t.Helper()
	var answers [2]*authv3.CheckResponse
	for i, g := range gates {
		answers[i] = &authv3.CheckResponse{}
		if err := proto.Unmarshal(g.Answer(t.Context(), asked, nil), answers[i]); err != nil {
			t.Fatalf("the answer is no CheckResponse: %v", err)
		}
	}
	if !proto.Equal(answers[0], answers[1]) {
		t.Fatalf("the fast path says\n%v\nthe ordinary one\n%v", answers[0], answers[1])
	}
	return answers[0]
}

func wire(t testing.TB, in *authv3.CheckRequest) string {
	t.Helper()
	asked, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(asked)
}
