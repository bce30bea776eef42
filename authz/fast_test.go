package authz_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"
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
		{"a token that is no text", strings.Replace(wire(t, asEnvoySends("Bearer xx")), "Bearer xx", "Bearer \xff\xfe", 1), "internal"},
		{"a value before the value, and no text", inHeaders("\x0a\x0dauthorization\x12\x01\xff" + nested(2, inCompany())), "internal"},
		{"two values, both of them text", inHeaders("\x0a\x0dauthorization\x12\x01x" + nested(2, inCompany())), "ok"},
		{"a route that is no text", strings.Replace(whole, "\x05query", "\x05\xff\xfeery", 1), "internal"},
		{"a host that is no text, at which no decision looks", strings.Replace(whole, "gate.test", "gate\xfftest", 1), "ok"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := reason(alike(t, bothPaths(t, options(t, token.Rules{}, saying(member()))), c.asked)); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}

// nested is a field with bytes.
func nested(number protowire.Number, value string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value))
}

// inHeaders is a check with one entry among the headers.
func inHeaders(entry string) string { return nested(1, nested(4, nested(2, nested(3, entry)))) }

// padded is n as a varint of five bytes.
func padded(n int) string {
	return string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n>>14) | 0x80, 0x80, 0})
}

// Property: of the same bytes, the fast path and the ordinary one say the same, to
// the last field of the answer. Where the ordinary decoder refuses the bytes and the
// fast path does not, the fault lies in what no decision looks at: without that, the
// ordinary one decodes them too, and says what the fast path says.
func FuzzBothPathsDecideAlike(f *testing.F) {
	for _, in := range []*authv3.CheckRequest{
		asEnvoySends(inCompany()), asEnvoySends(""), asEnvoySends("Bearer x"), {},
		request(inCompany(), rawHeaders()),
		request("", extension("auth_mode", "none")),
		request(inCompany(), extension("roles", "admin, user"), method("OPTIONS")),
		untold("GET", "/none?/strict", ""), untold("POST", "/strict/admin", inCompany()),
	} {
		f.Add([]byte(wire(f, in)))
	}
	o := options(f, token.Rules{}, saying(member()))
	o.Router = byPath
	gates := bothPaths(f, o)
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

// alike asks both, and returns what the fast one says.
func alike(t testing.TB, gates [2]*authz.Gate, asked string) *authv3.CheckResponse {
	t.Helper()
	ordinary := asked
	if proto.Unmarshal([]byte(asked), &authv3.CheckRequest{}) != nil {
		if reads, _ := gates[0].TakesTheFastPath(t.Context(), asked); reads {
			ordinary = read(t, asked)
		}
	}
	var answers [2]*authv3.CheckResponse
	for i, asked := range [2]string{asked, ordinary} {
		answers[i] = &authv3.CheckResponse{}
		if err := proto.Unmarshal(gates[i].Answer(t.Context(), asked, nil), answers[i]); err != nil {
			t.Fatalf("the answer is no CheckResponse: %v", err)
		}
	}
	if !proto.Equal(answers[0], answers[1]) {
		t.Fatalf("the fast path says\n%v\nthe ordinary one\n%v", answers[0], answers[1])
	}
	return answers[0]
}

// read leaves in the bytes of a check only what decisions look at.
func read(t testing.TB, asked string) string {
	t.Helper()
	keep := func(numbers ...protowire.Number) func(protowire.Number, []byte) bool {
		return func(n protowire.Number, _ []byte) bool { return slices.Contains(numbers, n) }
	}
	message := func(text []byte, inner map[protowire.Number]func([]byte) []byte, keep func(protowire.Number, []byte) bool) (out []byte) {
		for len(text) > 0 {
			n, wire, length := protowire.ConsumeField(text)
			if length < 0 {
				t.Fatalf("the fast path reads bytes that are no fields")
			}
			_, _, tag := protowire.ConsumeTag(text)
			if value, _ := protowire.ConsumeBytes(text[tag:]); wire == protowire.BytesType && keep(n, value) {
				if below := inner[n]; below != nil {
					value = below(value)
				}
				out = protowire.AppendBytes(protowire.AppendTag(out, n, wire), value)
			}
			text = text[length:]
		}
		return out
	}
	// An entry without one of these names in it is not looked at.
	named := func(entry []byte, names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(bytes.ToLower(entry), []byte(name)) })
	}
	type below = map[protowire.Number]func([]byte) []byte
	http := func(text []byte) []byte {
		return message(text, below{4: pathOrNone}, func(n protowire.Number, value []byte) bool {
			return n == 2 || n == 4 || n == 3 && named(value, "authorization", "x-request-id")
		})
	}
	request := func(text []byte) []byte { return message(text, below{2: http}, keep(2)) }
	attributes := func(text []byte) []byte {
		return message(text, below{4: request}, func(n protowire.Number, value []byte) bool {
			return n == 4 || n == 10 && named(value, "auth_mode", "route", "roles")
		})
	}
	return string(message([]byte(asked), below{1: attributes}, keep(1)))
}

// pathOrNone is how the fast path takes a path that is no text.
func pathOrNone(path []byte) []byte {
	if utf8.Valid(path) {
		return path
	}
	return nil
}

func wire(t testing.TB, in *authv3.CheckRequest) string {
	t.Helper()
	asked, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(asked)
}
