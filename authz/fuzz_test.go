package authz_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/internal/token"
)

// Property: whatever Envoy, or something else, sends, the answer can be sent,
// and it is an allow in Envoy's eyes only if it is marked as one and the request
// was on an open route or carried exactly one Authorization value with a token
// that verifies.
func FuzzAnAnswerIsAnAllowOnlyIfItWasEarned(f *testing.F) {
	o := options(f, token.Rules{}, saying(member()))
	s := newGate(f, o)
	empty := []byte{}
	f.Add(empty, inCompany(), "", "strict", "", "query", "GET")
	f.Add(empty, inCompany(), inCompany(), "initial", "user", "query", "OPTIONS")
	f.Add(empty, "", inCompany(), "none", "", "\xff", "")
	f.Add(empty, "Basic YTpi", "", "none", " ,", "", "PUT")
	if seed, err := proto.Marshal(request(inCompany(), rawHeaders())); err == nil {
		f.Add(seed, "", "", "", "", "", "")
	}
	f.Fuzz(func(t *testing.T, message []byte, text, raw, mode, roles, route, method string) {
		in := &authv3.CheckRequest{}
		if proto.Unmarshal(message, in) != nil || len(message) == 0 {
			in = request(text, extension("auth_mode", mode), extension("roles", roles), extension("route", route))
			in.Attributes.Request.Http.Method = method
			if raw != "" {
				in.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte(raw)}}}
			}
		}
		if _, err := proto.Marshal(in); err != nil {
			return // it could not be sent
		}
		out := check(t, s, in)
		if _, err := proto.Marshal(out); err != nil {
			t.Fatalf("the answer cannot be sent: %v", err)
		}
		passes := out.GetStatus().GetCode() == 0
		if marked := out.GetDynamicMetadata().GetFields()["outcome"].GetStringValue() == "allow"; passes != marked {
			t.Fatalf("passes: %v, marked as an allow: %v", passes, marked)
		}
		if !passes {
			return
		}
		extensions := in.GetAttributes().GetContextExtensions()
		if extensions["auth_mode"] == "none" && extensions["roles"] == "" {
			if len(out.GetOkResponse().GetHeaders()) > 0 {
				t.Fatal("an identity on an open route")
			}
			return
		}
		var values []string
		http := in.GetAttributes().GetRequest().GetHttp()
		for name, value := range http.GetHeaders() {
			if strings.EqualFold(name, "authorization") {
				values = append(values, value)
			}
		}
		for _, h := range http.GetHeaderMap().GetHeaders() {
			if strings.EqualFold(h.GetKey(), "authorization") {
				values = append(values, string(h.GetRawValue())+h.GetValue())
			}
		}
		if len(values) != 1 || len(values[0]) < len("Bearer ") {
			t.Fatalf("allowed with the Authorization values %q", values)
		}
		if _, err := o.Verifier.Verify(strings.TrimLeft(values[0][len("Bearer "):], " "), now); err != nil {
			t.Fatalf("allowed with a token that is refused: %v", err)
		}
	})
}
