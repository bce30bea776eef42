package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// ownTable is an operator's table: a service of its own, a template, roles and a
// limit on bodies.
const ownTable = `upstreams:
  login: { authorization: true, timeouts: { total: 15s } }
  reports:
    url: %s
    headers: { drop: [cookie] }
    retries: 1
routes:
  - name: report
    template: "/reports/{uuid}"
    methods: [GET, PUT]
    mode: strict
    upstream: reports
    max_body: 64KiB
  - name: admin
    prefix: /reports/admin
    methods: [GET]
    mode: strict
    roles: [admin, owner]
    upstream: reports
  - name: hook
    path: /reports/admin/hook
    methods: [POST]
    mode: none
    upstream: reports
    opens: [admin]
  - name: me
    path: /api/v1/users/me
    methods: [GET]
    mode: initial
    upstream: login
`

func TestATableOfOnesOwnLeadsWhereItSays(t *testing.T) {
	reports := newUpstream(t)
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, ownTable, reports.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	// Not by startStack, whose last wait is for a route of the shipped tables.
	s := newStack(t, postgrestest.New(t), map[string]string{"GATEWAY_ROUTES": file})
	s.command("migrate")
	s.startAuthz()
	s.startLogin()
	s.startEnvoy()
	eventually(t, "the gate answers from authz", func() error { return s.get("/reports/"+id, nil).is(http.StatusUnauthorized) })

	member := s.newMember()
	allowed := bearer(token(t, claimsOf(member)))
	t.Run("the upstream of the table gets the identity and no cookie", func(t *testing.T) {
		s := s.in(t)
		reports.forget()
		h := allowed.Clone()
		h["Cookie"] = []string{"a=b"}
		if err := s.get("/reports/"+mixed(id)+"?a=b", h).is(http.StatusOK); err != nil {
			t.Fatal(err)
		}
		got := reports.only(t)
		if got.URI != "/reports/"+mixed(id)+"?a=b" || got.Header.Get("X-User-Id") != member.id || got.Header.Get("Cookie") != "" || got.Header.Get("Authorization") != "" {
			t.Errorf("the upstream got %s %v", got.URI, got.Header)
		}
	})
	t.Run("what no route names is not there", func(t *testing.T) {
		s := s.in(t)
		for _, path := range []string{"/reports/x", "/reports/" + id + "/x", "/api/v1/query/ask", "/health"} {
			s.get(path, allowed).want(t, http.StatusNotFound, "Not Found")
		}
		a := s.do("DELETE", "/reports/"+id, allowed, "")
		a.want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
		expectAllow(t, a, []string{"GET", "PUT"})
	})
	t.Run("a user without the role is refused, and one with it passes", func(t *testing.T) {
		s := s.in(t)
		reports.forget()
		a := s.get("/reports/admin/x", allowed)
		a.want(t, http.StatusForbidden, "Insufficient role for this route.")
		if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer error="insufficient_scope"`) {
			t.Errorf("WWW-Authenticate = %q", got)
		}
		reports.none(t)
		eventually(t, "the refusal is counted under its route", func() error {
			if got := metric(t, s.authzOps, `gatehouse_authz_decisions_total{decision="deny",reason="role_insufficient",route="admin"}`); got != "1" {
				return fmt.Errorf("counted %q, want 1", got)
			}
			return nil
		})
		admin := s.newMember()
		s.sql(`UPDATE users SET role = 'admin' WHERE id = $1`, admin.id)
		if err := s.get("/reports/admin/x", bearer(token(t, claimsOf(admin)))).is(http.StatusOK); err != nil {
			t.Error(err)
		}
	})
	t.Run("a route that opens a part of another asks nobody", func(t *testing.T) {
		s := s.in(t)
		reports.forget()
		if err := s.do("POST", "/reports/admin/hook", http.Header{"X-User-Id": {"forged"}}, "x").is(http.StatusOK); err != nil {
			t.Fatal(err)
		}
		if got := identityOf(reports.only(t)); len(got) != 0 {
			t.Errorf("the upstream got %v, want no identity", got)
		}
		s.do("POST", "/reports/admin/hooks", nil, "x").want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
	})
	t.Run("a body past the limit is refused and one within it arrives", func(t *testing.T) {
		s := s.in(t)
		reports.forget()
		s.do("PUT", "/reports/"+id, allowed, strings.Repeat("x", 64<<10+1)).want(t, http.StatusRequestEntityTooLarge, "Request body too large.")
		reports.none(t)
		if err := s.do("PUT", "/reports/"+id, allowed, strings.Repeat("x", 64<<10)).is(http.StatusOK); err != nil {
			t.Fatal(err)
		}
		if got := reports.only(t).Body; got != 64<<10 {
			t.Errorf("%d bytes arrived", got)
		}
	})
}

func TestATableThatIsWrongStartsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "routes.yaml"), []byte("upstreams: { query: {} }\nroutes:\n  - { name: ask, path: /ask, methods: [GET], upstream: query }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, "postgres://127.0.0.1:1/nothing", map[string]string{"GATEWAY_ROUTES": "routes.yaml"})
	want := "GATEWAY_ROUTES: " + filepath.Join(dir, "routes.yaml") + `:3: route "ask": mode is missing: want strict, initial or none` + "\n"
	for _, args := range [][]string{{"authz"}, {"gatehouse", "envoy", "render"}, {"gatehouse", "up", "--state-dir", filepath.Join(dir, "state")}} {
		cmd := exec.Command(filepath.Join(binaries, args[0]), args[1:]...)
		cmd.Env, cmd.Dir = s.environ(), dir
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run()
		// Behind the log of the start, where there is one.
		if said := stderr.String(); cmd.ProcessState.ExitCode() != 2 || !strings.HasSuffix("\n"+said, "\n"+want) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", args, cmd.ProcessState.ExitCode(), said, want)
		}
	}
}
