package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/login"
)

// recording keeps what a store is told to record.
type recording struct {
	mu     sync.Mutex
	events []identity.Event
	from   []identity.Origin
}

func (r *recording) audit(ctx context.Context, e identity.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.from = append(r.events, e), append(r.from, identity.OriginOf(ctx))
	return nil
}

// recordAll runs the recorder until everything that waits is written.
func (g *stage) recordAll() {
	ended, cancel := context.WithCancel(g.t.Context())
	cancel()
	g.service.Record(ended)
}

func TestFailedLoginsOfThoseWhoAreKnownAreRecorded(t *testing.T) {
	hash := argonOf(t, rightWords)
	disabled := adaWith(hash)
	disabled.Active = false
	for _, c := range []struct {
		name    string
		account identity.Account
		email   string
		words   string
		want    []string // reasons
	}{
		{"a wrong password", adaWith(hash), adaEmail, wrongWords, []string{"credentials"}},
		{"no password was ever set", adaWith(""), adaEmail, rightWords, []string{"credentials"}},
		{"a disabled user with the right one", disabled, adaEmail, rightWords, []string{"inactive"}},
		{"nobody has the address, which may be somebody's password", adaWith(hash), nobodyEmail, wrongWords, nil},
		{"a good login is recorded where its session is", adaWith(hash), adaEmail, rightWords, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept := &recording{}
			s := holding(c.account)
			s.audit = kept.audit
			g := newStage(t, s)
			r := credentials(c.email, c.words)
			r.Header.Set("X-Request-ID", "request-7")
			r.RemoteAddr = "192.0.2.7:1234"
			g.send(r)
			g.recordAll()
			var got []string
			for i, e := range kept.events {
				got = append(got, e.Details["reason"].(string))
				if e.Name != "login.failure" || e.Outcome != identity.Failure || e.Subject != ada || !e.Actor.IsZero() ||
					kept.from[i].Address.String() != "192.0.2.7" || kept.from[i].RequestID != "request-7" {
					t.Errorf("recorded %+v from %+v", e, kept.from[i])
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The log may hang or refuse: nobody waits for it, and the answer is the same.
func TestALogThatHangsHoldsUpNoRefusal(t *testing.T) {
	hash := argonOf(t, rightWords)
	synctest.Test(t, func(t *testing.T) {
		s := holding(adaWith(hash))
		asked := 0
		s.audit = func(ctx context.Context, _ identity.Event) error {
			asked++
			<-ctx.Done()
			return errors.New("the log hangs")
		}
		g := newStage(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { g.service.Record(ctx); close(done) }()
		for range 2 {
			start := time.Now()
			if w := g.send(credentials(adaEmail, wrongWords)); w.Code != http.StatusUnauthorized || time.Since(start) > time.Second {
				t.Errorf("got %d after %v", w.Code, time.Since(start))
			}
		}
		cancel()
		<-done
		if asked != 2 || strings.Count(g.log.String(), "event not recorded") != 2 {
			t.Errorf("asked %d times: %s", asked, g.log)
		}
	})
}

func TestChoresAreDoneAtTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hourly, minutely int
		failing := errors.New("connection refused")
		g := newStage(t, store{sweep: func(context.Context) (int, error) { return 0, nil }}, func(o *login.Options) {
			o.Chores = []login.Chore{
				{Name: "minutely", Every: time.Minute, Do: func(context.Context) (int, error) { minutely++; return 1, nil }},
				{Name: "hourly", Every: time.Hour, Do: func(context.Context) (int, error) { hourly++; return 0, failing }},
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { g.service.Sweep(ctx); close(done) }()
		<-time.After(2*time.Hour + time.Second) // on the bubble's clock
		cancel()
		<-done
		if minutely != 120 || hourly != 2 {
			t.Errorf("done %d times and %d times, want 120 and 2", minutely, hourly)
		}
		if log := g.log.String(); strings.Count(log, "chore not done") != 2 || !strings.Contains(log, `"chore":"hourly"`) {
			t.Errorf("failures are not logged once each: %s", log)
		}
	})
}

// What a person does from the first login on, as the log tells it.
func TestTheLogTellsWhatAPersonDid(t *testing.T) {
	p := newPeople(t)
	ada := p.token("ada")
	if w := p.send(credentials("ada@example.com", wrongWords)); w.Code != http.StatusUnauthorized {
		t.Fatal(w.Code)
	}
	p.recordAll()
	made := decodeBody(t, p.as(ada, http.MethodPost, invitationsOf(p.home), `{"email":"cy@example.com"}`))
	cy := p.token("cy")
	for _, step := range []struct {
		body string
		want int
	}{
		{`{"company_id":"` + p.away.String() + `"}`, http.StatusForbidden},
		{`{"invitation_token":"` + made["token"].(string) + `"}`, http.StatusOK},
	} {
		if w := p.as(cy, http.MethodPost, ensurePath, step.body); w.Code != step.want {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	var w *httptest.ResponseRecorder
	if w = p.as(cy, http.MethodPost, logoutPath, ""); w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	p.holds("ada", "login.success", "login.failure", "invitation.created")
	p.holds("cy", "login.success", "company.denied", "invitation.accepted", "company.joined", "session.ended")
}

func TestAnotherSigningKeyIsRecorded(t *testing.T) {
	kept := &recording{}
	g := newStage(t, store{audit: kept.audit})
	g.service.SigningKeyChanged(t.Context(), "first", "second")
	g.recordAll()
	want := []identity.Event{{Name: "key.rotated", Details: map[string]any{"from": "first", "to": "second"}}}
	if diff := cmp.Diff(want, kept.events); diff != "" {
		t.Error(diff)
	}
}
