package e2e

import (
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

const (
	disable = `UPDATE users SET is_active = false WHERE id = $1::uuid`
	enable  = `UPDATE users SET is_active = true WHERE id = $1::uuid`
	// hangUp ends the connections on which the replicas listen.
	hangUp = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = '` + listenerName + `'`
)

// remembered is a watch on a new member whom every replica has in memory.
func (f *fleet) remembered(t *testing.T) (user, *watch) {
	t.Helper()
	u := f.in(t).newMember()
	w := f.watch(t, token(t, claimsOf(u)), inactiveUser)
	w.await("every replica lets it in", f.each(f.replicas, allowed, 1, time.Time{}))
	f.remembers(t, w)
	return u, w
}

// comeBack gives a user back its access; what was broken is whole again, and so
// the replicas use memory as before, without a restart.
func (f *fleet) comeBack(t *testing.T, w *watch, revive func() time.Time) {
	t.Helper()
	for _, r := range f.replicas {
		r.listens(t, true)
	}
	// Nothing from before is remembered now that memory is in use again.
	wantForgotten(refused, f.replicas, w)
	w.change(revive)
	w.wantGranted(f.replicas)
	f.remembers(t, w)
}

// A connection that dies in silence, or loudly, or with the process at either end
// frozen, hides a change no longer than the proof of life lasts.
func TestNoSilenceIsTrustedLongerThanTheProofOfLife(t *testing.T) {
	t.Parallel()
	f := startFleet(t, postgrestest.New(t), map[string]string{"GATEWAY_PROOF_OF_LIFE": "600ms"})
	before := f.processes()
	some := f.replicas[:1]
	for _, test := range []struct {
		name     string
		silenced []string
		replicas []*replica
		then     outcome
	}{
		{"the listener of one replica is cut off", []string{listenerName}, some, refused},
		{"the listener of every replica is cut off", []string{listenerName}, f.replicas, refused},
		{"everything of one replica is cut off", nil, some, undecided},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, w := f.remembered(t)
			a := newAdmin(t, f.database)
			for _, r := range test.replicas {
				r.between.freeze(test.silenced...)
				t.Cleanup(r.between.thaw)
			}
			w.change(func() time.Time { return a.do(sql(disable, u.id)) })
			wantForgotten(refused, f.replicas[len(test.replicas):], w)
			wantForgotten(test.then, test.replicas, w)
			w.wantOutlasted(test.then, test.replicas)
			for _, r := range test.replicas {
				r.listens(t, false)
				r.between.thaw()
			}
			f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
		})
	}

	t.Run("listeners are hung up", func(t *testing.T) {
		u, w := f.remembered(t)
		a := newAdmin(t, f.database)
		for _, change := range []func() time.Time{
			func() time.Time { return a.do(sql(hangUp), sql(disable, u.id)) },
			func() time.Time { return a.do(sql(disable, u.id), sql(hangUp)) },
			func() time.Time { a.do(sql(hangUp)); return a.do(sql(disable, u.id)) },
			func() time.Time { at := a.do(sql(disable, u.id)); a.do(sql(hangUp)); return at },
		} {
			w.change(change)
			wantForgotten(refused, f.replicas, w)
			f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
		}
	})

	t.Run("the server's end of the listeners is frozen", func(t *testing.T) {
		u, w := f.remembered(t)
		a := newAdmin(t, f.database)
		resume := a.freezeIdle(listenerName)
		w.change(func() time.Time { return a.do(sql(disable, u.id)) })
		wantForgotten(refused, f.replicas, w)
		w.wantOutlasted(refused, f.replicas)
		resume()
		f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
	})

	for _, test := range []struct {
		name     string
		silenced bool
	}{
		{"authz is frozen, and what it missed waits for it", false},
		{"authz is frozen, and hears nothing when it goes on", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, w := f.remembered(t)
			a := newAdmin(t, f.database)
			r := some[0]
			if test.silenced {
				r.between.freeze(listenerName)
				t.Cleanup(r.between.thaw)
			}
			if err := r.authzProcess.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.authzProcess.Signal(syscall.SIGCONT) }()
			w.change(func() time.Time { return a.do(sql(disable, u.id)) })
			wantForgotten(refused, f.replicas[1:], w)
			<-time.After(time.Until(w.committed.Add(f.trusted)))
			// They wait for it, all at once, when it goes on.
			answers := f.burst(t, r, bearer(w.raw), 40)
			if err := r.authzProcess.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			for a := range answers {
				if a.err != nil || a.status == http.StatusOK || a.reached() {
					t.Fatalf("a request that was sent after the bound: %d %s %v, want a refusal", a.status, a.body, a.err)
				}
			}
			w.wantOutlasted(refused, f.replicas)
			r.between.thaw()
			f.comeBack(t, w, func() time.Time { return a.do(sql(enable, u.id)) })
		})
	}
	f.same(t, before)
}

// burst sends requests to a replica at the same time and returns when they are
// on their way, which is when Envoy has counted them in.
func (f *fleet) burst(t *testing.T, r *replica, header http.Header, n int) <-chan answer {
	t.Helper()
	gate := r.in(t)
	answers := make(chan answer, n)
	started := f.pending(t, r)
	var all sync.WaitGroup
	for range n {
		all.Go(func() { answers <- gate.get(strictRoute, header) })
	}
	go func() { all.Wait(); close(answers) }()
	eventually(t, "the requests wait for "+r.host, func() error { return atLeast(f.pending(t, r), started+n) })
	return answers
}
