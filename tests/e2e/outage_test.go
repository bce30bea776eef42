package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// An outage of PostgreSQL is one of the protected routes and says so; the change
// that is made the moment it is back counts, and nothing needs a restart.
func TestAnOutageOfPostgresForgivesNoChange(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	f := startFleet(t, server.New(), map[string]string{"GATEWAY_PROOF_OF_LIFE": "600ms"})
	before := f.processes()
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(server.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		down    func()
		outlive bool // it lasts longer than anything is trusted
		late    bool // the change is made before anybody can listen again
	}{
		{"stopped in order", server.Stop, true, true},
		{"stopped at once", func() { signal(syscall.SIGQUIT); server.Stop() }, true, false},
		{"crashed, and is soon back", server.Kill, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, w := f.remembered(t)
			test.down()
			if test.outlive {
				f.wantOutage(t, w)
			}
			w.change(func() time.Time {
				for _, r := range f.replicas {
					if test.late {
						r.between.freeze(listenerName)
						t.Cleanup(r.between.thaw)
					}
				}
				committed := make(chan time.Time, 1)
				go f.asSoonAsThere(t.Context(), committed, disable, u.id)
				server.Start()
				at := <-committed
				for _, r := range f.replicas {
					r.between.thaw()
				}
				return at
			})
			wantForgotten(refused, f.replicas, w)
			w.wantOutlasted(refused, f.replicas)
			a := newAdmin(t, f.database)
			f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
		})
	}

	// Nobody is told anything: connections stand, and new ones are not answered.
	t.Run("frozen", func(t *testing.T) {
		u, w := f.remembered(t)
		a := newAdmin(t, f.database)
		signal(syscall.SIGSTOP)
		defer signal(syscall.SIGCONT)
		resume := a.freezeIdle(poolName, listenerName)
		w.change(func() time.Time { return a.do(sql(disable, u.id)) })
		wantForgotten(undecided, f.replicas, w)
		w.wantOutlasted(undecided, f.replicas)
		f.wantOutage(t, w)
		resume()
		signal(syscall.SIGCONT)
		f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
	})
	f.same(t, before)
}

// asSoonAsThere runs a statement in the first connection that a server accepts.
func (f *fleet) asSoonAsThere(ctx context.Context, committed chan<- time.Time, statement string, args ...any) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, f.database)
		if err != nil {
			continue
		}
		_, err = conn.Exec(ctx, statement, args...)
		at := time.Now()
		_ = conn.Close(ctx)
		if err == nil {
			committed <- at
			return
		}
	}
}

// wantOutage waits until nothing is trusted any more and looks at what clients
// and operators get to see.
func (f *fleet) wantOutage(t *testing.T, w *watch) {
	t.Helper()
	w.await("nothing is trusted any more", f.each(f.replicas, undecided, 1, time.Now().Add(f.trusted)))
	f.in(t).wantRetry(t, f.in(t).get(strictRoute, bearer(w.raw)), cannotDecide)
	for _, r := range f.replicas {
		r.listens(t, false)
		if r.mustMetric(t, `gatehouse_authz_decisions_total{decision="error",reason="unavailable"`) == 0 {
			t.Errorf("%s counts no check that was left undecided", r.host)
		}
		// All replicas would leave at once.
		stays(t, r.authzOps+"/readyz")
		stays(t, r.authzOps+"/livez")
		eventually(t, r.host+" says what it does", func() error { return r.lastState("revocations are not heard: checks read PostgreSQL") })
	}
}

// lastState looks at what the log says last of whether changes are heard.
func (r *replica) lastState(want string) error {
	last := errors.New("nothing is said of revocations")
	for line := range strings.Lines(r.authzLog.String()) {
		if strings.Contains(line, `"msg":"revocations are `) {
			last = nil
			if !strings.Contains(line, `"msg":"`+want+`"`) {
				last = fmt.Errorf("the log says last: %s", line)
			}
		}
	}
	return last
}

// Replicas die without a word, one after the other, and come back. Clients get
// the right answer or 503; a replica that is new knows nothing and asks.
func TestReplicasDieAndComeBackUnderLoad(t *testing.T) {
	t.Parallel()
	f := startFleet(t, postgrestest.New(t), nil)
	a := newAdmin(t, f.database)
	good := f.in(t).newMember()
	stays := f.watch(t, token(t, claimsOf(good)), anonymous) // which it never is
	for _, r := range f.replicas {
		gone, w := f.remembered(t)
		u, others := f.remembered(t)
		f.kill(r.authzProcess)
		rest := make([]*replica, 0, len(f.replicas))
		for _, other := range f.replicas {
			if other != r {
				rest = append(rest, other)
			}
		}
		w.change(func() time.Time { return a.do(sql(disable, gone.id)) })
		wantForgotten(refused, rest, w)
		// The others take over, whoever is asked for.
		eventually(t, "Envoy asks the others alone", func() error {
			for range 20 {
				if err := f.get(strictRoute, bearer(stays.raw)).is(http.StatusOK); err != nil {
					return err
				}
			}
			return nil
		})
		others.change(func() time.Time { return a.do(sql(disable, u.id)) })
		wantForgotten(refused, rest, others)
		// Where nobody else can be asked, nobody is let in.
		w.wantOutlasted(undecided, []*replica{r})

		r.startAuthz()
		for _, dead := range []*watch{w, others} {
			wantForgotten(refused, f.replicas, dead)
			dead.wantOutlasted(refused, f.replicas)
			dead.stop()
		}
		stays.forget()
		stays.await("the new one decides", f.each(f.replicas, allowed, 2, time.Time{}))
		// Three people are asked about, and none was known.
		if misses := r.mustMetric(t, "gatehouse_authz_cache_misses_total"); misses < 3 {
			t.Errorf("%s came back and asked the database %v times, want 3 or more", r.host, misses)
		}
	}
	f.remembers(t, stays)
}
