package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// A mesh asks authz itself; all that it can say about a route are context
// extensions.
func TestAMeshSaysByExtensionsWhatARouteAsks(t *testing.T) {
	s := shared(t)
	conn, err := grpc.NewClient("passthrough:///"+s.settings["GATEWAY_AUTHZ_LISTEN"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	authz := authv3.NewAuthorizationClient(conn)
	ask := func(t *testing.T, extensions map[string]string, headers map[string]string) *authv3.CheckResponse {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := authz.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: extensions,
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Path: "/any", Headers: headers,
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	member, stranger, admin := s.newMember(), s.newUser(""), s.newMember()
	s.sql(`UPDATE users SET role = 'admin' WHERE id = $1::uuid`, admin.id)
	as := func(u user) map[string]string {
		return map[string]string{"authorization": "Bearer " + token(t, claimsOf(u))}
	}
	mode := func(m string) map[string]string { return map[string]string{"auth_mode": m} }
	roles := func(r string) map[string]string { return map[string]string{"auth_mode": "strict", "roles": r} }
	for _, test := range []struct {
		name       string
		extensions map[string]string
		headers    map[string]string
		want       refusal
	}{
		{"strict, a member", mode("strict"), as(member), accepted},
		{"strict, a stranger", mode("strict"), as(stranger), noCompany},
		{"initial, a stranger", mode("initial"), as(stranger), accepted},
		{"initial, nobody", mode("initial"), nil, anonymous},
		{"none, nobody", mode("none"), nil, accepted},
		{"none, a bad token", mode("none"), map[string]string{"authorization": "Bearer x"}, accepted},
		{"nothing said, a member", nil, as(member), accepted},
		{"nothing said, a stranger", nil, as(stranger), noCompany},
		{"nothing said, nobody", nil, nil, anonymous},
		{"an empty mode", mode(""), as(stranger), noCompany},
		{"an unknown mode", mode("off"), nil, anonymous},
		{"None is not none", mode("None"), nil, anonymous},
		{"a blank behind none", mode("none "), nil, anonymous},
		{"INITIAL is not initial", mode("INITIAL"), as(stranger), noCompany},
		{"a role, another one held", roles("admin"), as(member), roleMissing},
		{"a role, held", roles("admin"), as(admin), accepted},
		{"one of several roles, held", roles("auditor, admin"), as(admin), accepted},
		{"roles in another case", roles("Admin"), as(admin), roleMissing},
		{"roles that name nobody", roles(" , "), as(admin), roleMissing},
		{"a role before everything else", roles("admin"), as(stranger), noCompany},
		{"an open route that asks for roles", map[string]string{"auth_mode": "none", "roles": "admin"}, nil, anonymous},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := ask(t, test.extensions, test.headers)
			if test.want == accepted {
				if r.GetStatus().GetCode() != int32(codes.OK) || r.GetOkResponse() == nil {
					t.Errorf("got %v, want an allow", r)
				}
				return
			}
			d := r.GetDeniedResponse()
			if r.GetStatus().GetCode() == int32(codes.OK) || r.GetOkResponse() != nil || d == nil {
				t.Fatalf("got %v, want a denial", r)
			}
			if int(d.GetStatus().GetCode()) != test.want.status || d.GetBody() != marshal(t, map[string]string{"detail": test.want.detail}) {
				t.Errorf("got %d %s, want %d %q", d.GetStatus().GetCode(), d.GetBody(), test.want.status, test.want.detail)
			}
		})
	}

	t.Run("an open route removes what a client claims", func(t *testing.T) {
		r := ask(t, mode("none"), map[string]string{"x-user-id": member.id}).GetOkResponse()
		var removed []string
		for _, name := range r.GetHeadersToRemove() {
			removed = append(removed, strings.ToLower(name))
		}
		for _, name := range []string{"x-user-id", "x-company-id", "x-user-email"} {
			if !slices.Contains(removed, name) {
				t.Errorf("%v is removed, want %s too", removed, name)
			}
		}
		if len(r.GetHeaders()) != 0 {
			t.Errorf("headers are set: %v", r.GetHeaders())
		}
	})
	t.Run("a check that says nothing", func(t *testing.T) {
		r, err := authz.Check(t.Context(), &authv3.CheckRequest{})
		if err != nil || r.GetStatus().GetCode() == int32(codes.OK) || r.GetOkResponse() != nil {
			t.Errorf("got %v, %v; want a denial", r, err)
		}
	})
	t.Run("an unknown user's identity replaces what a client claims", func(t *testing.T) {
		h := as(stranger)
		h["x-company-id"] = member.company
		r := ask(t, mode("initial"), h).GetOkResponse()
		if !slices.Contains(r.GetHeadersToRemove(), "x-company-id") {
			t.Errorf("x-company-id is not removed: %v", r)
		}
		for _, set := range r.GetHeaders() {
			if set.GetAppendAction().String() != "OVERWRITE_IF_EXISTS_OR_ADD" {
				t.Errorf("%s is %s", set.GetHeader().GetKey(), set.GetAppendAction())
			}
		}
	})
}
