package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// explained is what `gatehouse explain --output json` says of a request, as far as
// it is held to what Envoy does.
type explained struct {
	ReachesUpstream bool   `json:"reaches_upstream"`
	AnsweredBy      string `json:"answered_by"`
	Upstream        struct {
		Set     []explainedHeader `json:"headers_set"`
		Removed []string          `json:"headers_removed"`
	} `json:"upstream"`
	Clients struct {
		HTTP    *explainedReply `json:"http"`
		GRPC    *explainedReply `json:"grpc"`
		GRPCWeb *explainedReply `json:"grpc_web"`
	} `json:"clients"`
}

type explainedHeader struct{ Name, Value string }

type explainedReply struct {
	Status  int               `json:"status"`
	Headers []explainedHeader `json:"headers"`
	Body    string            `json:"body"`
}

func (s *stack) explain(method, path, token string) explained {
	s.t.Helper()
	args := []string{"explain", "--method", method, "--path", path, "--output", "json"}
	if token == "" {
		args = append(args, "--no-token")
	}
	var out explained
	if err := json.Unmarshal([]byte(s.commandWith(token, args...)), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// holds compares what was said to what came. Each header that was said is there, with
// this value alone, and none that says what became of the request is there unsaid.
func (r *explainedReply) holds(t *testing.T, got answer) {
	t.Helper()
	if got.err != nil {
		t.Fatal(got.err)
	}
	if r == nil {
		t.Fatal("nothing was said of this client")
	}
	if r.Status != got.status || r.Body != got.body {
		t.Errorf("said %d %q, came %d %q", r.Status, r.Body, got.status, got.body)
	}
	said := map[string][]string{}
	for _, h := range r.Headers {
		said[h.Name] = append(said[h.Name], h.Value)
	}
	for _, name := range []string{"content-type", "www-authenticate", "retry-after", "grpc-status", "grpc-message", "location"} {
		if came := got.header.Values(name); !slices.Equal(said[name], came) {
			t.Errorf("%s: said %q, came %q", name, said[name], came)
		}
		delete(said, name)
	}
	if len(said) > 0 {
		t.Errorf("said %v, which nobody compares", said)
	}
	for _, name := range []string{"X-Request-Id", "X-Process-Time"} {
		if got.header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
}

// What the command says that clients of each kind see, and what the upstream
// receives, is what the real Envoy does.
func TestWhatExplainSaysIsWhatEnvoyDoes(t *testing.T) {
	s := shared(t)
	member, gone, outsider := s.newMember(), s.newMember(), s.newMember()
	s.sql(`UPDATE users SET is_active = false WHERE id = $1::uuid`, gone.id)
	outsider.company = s.newCompany()
	for _, c := range []struct {
		name, method, path, token string
	}{
		{"no token", "POST", strictRoute, ""},
		{"a malformed token", "POST", strictRoute, "garbage"},
		{"an expired token", "POST", strictRoute, token(t, claimsOf(member).with("exp", time.Now().Add(-time.Hour).Unix()))},
		{"an inactive user", "POST", strictRoute, token(t, claimsOf(gone))},
		{"another company", "POST", strictRoute, token(t, claimsOf(outsider))},
		{"no route", "POST", "/nowhere", token(t, claimsOf(member))},
		{"no such method", "POST", "/api/v1/users/me", token(t, claimsOf(member))},
		{"no auth service", "POST", "/api/v1/auth/x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			said := s.explain(c.method, c.path, c.token)
			if said.ReachesUpstream {
				t.Error("it is said to reach its upstream")
			}
			for kind, reply := range map[string]*explainedReply{
				"application/json": said.Clients.HTTP, "application/grpc": said.Clients.GRPC, "application/grpc+proto": said.Clients.GRPC,
				"application/grpc-web": said.Clients.GRPCWeb, "application/grpc-web+proto": said.Clients.GRPCWeb, "application/grpc-web-text": said.Clients.GRPCWeb,
			} {
				header := http.Header{"Content-Type": {kind}}
				if c.token != "" {
					header.Set("Authorization", "Bearer "+c.token)
				}
				reply.holds(t, s.do(c.method, c.path, header, ""))
			}
			header := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
			if c.token != "" {
				header.Set("Authorization", "Bearer "+c.token)
			}
			said.Clients.GRPC.holds(t, s.h2(c.method, c.path, header))
			s.query.none(t)
		})
	}
	t.Run("an allowed request", func(t *testing.T) {
		s := s.in(t)
		raw := token(t, claimsOf(member))
		said := s.explain("GET", strictRoute, raw)
		if !said.ReachesUpstream || said.AnsweredBy != "upstream" {
			t.Fatalf("%+v", said)
		}
		forged := bearer(raw)
		for _, name := range []string{"X-User-Id", "X-Company-Id", "X-User-Email"} {
			forged.Set(name, "forged")
		}
		s.query.forget()
		s.get(strictRoute, forged).expect(t, accepted)
		got := s.query.only(t).Header
		for _, h := range said.Upstream.Set {
			want := h.Value
			if h.Name == "x-user-email" {
				want = member.email // which is not shown
			}
			if came := got.Values(h.Name); !slices.Equal(came, []string{want}) {
				t.Errorf("%s: said %q, came %q", h.Name, want, came)
			}
		}
		for _, name := range said.Upstream.Removed {
			if came := got.Values(name); len(came) > 0 {
				t.Errorf("%s is said to be removed, and came: %q", name, came)
			}
		}
		if len(said.Upstream.Set) != 3 || !slices.Contains(said.Upstream.Removed, "authorization") || strings.Contains(fmt.Sprint(said), member.email) {
			t.Errorf("said %+v", said.Upstream)
		}
	})
}

// A newcomer who starts the demo and asks why something was refused names no log.
func TestWhatTheDemoRefusesIsExplainedWithoutFurtherWords(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u := up(t, map[string]string{"XDG_STATE_HOME": home}, "--listen", freeAddress(t))
	s := u.ready().stack(t)
	const id = "why-not-me"
	eventually(t, "authz refuses, and not Envoy before it is there", func() error {
		return s.get(strictRoute, http.Header{"Authorization": {"Bearer garbage"}, "X-Request-Id": {id}}).is(http.StatusUnauthorized)
	})
	var said []byte
	within(t, 10*time.Second, "the refusal is recorded", func() (err error) {
		explain := exec.Command(filepath.Join(binaries, "gatehouse"), "explain", "--request-id", id)
		explain.Env, explain.Dir = []string{"PATH=" + os.Getenv("PATH"), "XDG_STATE_HOME=" + home}, t.TempDir()
		said, err = explain.Output()
		return err
	})
	for _, want := range []string{"DENY 401 token_malformed", "GET " + strictRoute} {
		if !strings.Contains(string(said), want) {
			t.Errorf("no %q:\n%s", want, said)
		}
	}
	if strings.Contains(string(said), "garbage") {
		t.Error("the token is shown")
	}
}
