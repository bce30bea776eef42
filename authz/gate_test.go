package authz_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

const (
	secret = "test-secret-made-of-obvious-words-for-authz"

	userText    = "0a0a0a0a-1111-4222-8333-444444444444"
	companyText = "0b0b0b0b-1111-4222-8333-444444444444"
	otherText   = "0d0d0d0d-1111-4222-8333-444444444444"
	sessionText = "0c0c0c0c-1111-4222-8333-444444444444"
)

var (
	now = time.Unix(1_800_000_000, 0).UTC()

	company = identity.CompanyID(mustUser(companyText))
	other   = identity.CompanyID(mustUser(otherText))
)

func mustUser(text string) identity.UserID {
	id, err := identity.ParseUserID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// jwt signs any claims with the secret that the gates of these tests know.
func jwt(header, claims string) string {
	b64 := base64.RawURLEncoding
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(input))
	return input + "." + b64.EncodeToString(mac.Sum(nil))
}

const plainHeader = `{"alg":"HS256","typ":"JWT"}`

// claims are good ones with members on top.
func claims(members string) string {
	return fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d%s}`, userText, now.Unix()-60, now.Unix()+3600, members)
}

// directory is what the database says, as a function.
type directory func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error)

func (d directory) Standing(ctx context.Context, u identity.UserID, s identity.SessionID, c identity.CompanyID) (identity.Standing, error) {
	return d(ctx, u, s, c)
}

func saying(s identity.Standing) directory {
	return func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
		return s, nil
	}
}

func failing(err error) directory {
	return func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
		return identity.Standing{}, err
	}
}

// member is a user in good standing whose current company is company.
func member() identity.Standing {
	return identity.Standing{
		Exists: true, Active: true, Email: "ana@x.test",
		Memberships: []identity.Membership{{Company: company, Role: "user"}, {Company: other, Role: "admin"}},
	}
}

func options(t testing.TB, rules token.Rules, d authz.Directory) authz.Options {
	t.Helper()
	keys, err := token.Sources{Algorithm: "HS256", Secret: []byte(secret)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	rules.Keys = keys
	v, err := token.NewVerifier(rules)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Options{
		Verifier:   v,
		Directory:  d,
		Routes:     []string{"query"},
		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.DiscardHandler),
		Clock:      func() time.Time { return now },
	}
}

func newGate(t testing.TB, o authz.Options) *authz.Gate {
	t.Helper()
	g, err := authz.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ask asks a gate in process.
func ask(ctx context.Context, t testing.TB, g *authz.Gate, in *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	asked, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := &authv3.CheckResponse{}
	if err := proto.Unmarshal(g.Answer(ctx, string(asked), nil), out); err != nil {
		t.Fatalf("the answer is no CheckResponse: %v", err)
	}
	return out
}

func check(t testing.TB, g *authz.Gate, in *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	return ask(context.Background(), t, g, in)
}

type edit func(*authv3.CheckRequest)

// request is what Envoy sends for GET on a strict route, edited.
func request(authorization string, edits ...edit) *authv3.CheckRequest {
	in := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"auth_mode": "strict", "route": "query"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method:  "GET",
			Path:    "/api/v1/query/chats",
			Headers: map[string]string{"x-request-id": "req-1"},
		}},
	}}
	if authorization != "" {
		in.Attributes.Request.Http.Headers["authorization"] = authorization
	}
	for _, e := range edits {
		e(in)
	}
	return in
}

// asEnvoySends is a check with all that the real Envoy puts into one under the
// shipped configuration.
func asEnvoySends(authorization string) *authv3.CheckRequest {
	peer := func(address string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}}}
	}
	return request(authorization, func(in *authv3.CheckRequest) {
		a := in.Attributes
		a.Source, a.Destination = peer("10.1.2.3", 50123), peer("10.1.2.4", 8080)
		a.MetadataContext, a.RouteMetadataContext = &corev3.Metadata{}, &corev3.Metadata{}
		a.Request.Time = timestamppb.New(now)
		http := a.Request.Http
		http.Id, http.Host, http.Scheme, http.Protocol, http.Size = "1234567890123456789", "gate.test", "http", "HTTP/1.1", -1
	})
}

func bearer(members string) string { return "Bearer " + jwt(plainHeader, claims(members)) }

func inCompany() string { return bearer(`,"company_id":"` + companyText + `"`) }

// extension sets a context extension, or takes it away with an empty value.
func extension(name, value string) edit {
	return func(in *authv3.CheckRequest) {
		if value == "" {
			delete(in.Attributes.ContextExtensions, name)
			return
		}
		in.Attributes.ContextExtensions[name] = value
	}
}

func method(name string) edit {
	return func(in *authv3.CheckRequest) { in.Attributes.Request.Http.Method = name }
}

// rawHeaders moves the headers to where Envoy's encode_raw_headers has them, and
// adds values there.
func rawHeaders(more ...*corev3.HeaderValue) edit {
	return func(in *authv3.CheckRequest) {
		http := in.Attributes.Request.Http
		http.HeaderMap = &corev3.HeaderMap{}
		for _, name := range []string{"authorization", "x-request-id"} {
			if value, ok := http.Headers[name]; ok {
				http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
			}
		}
		http.Headers = nil
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, more...)
	}
}
