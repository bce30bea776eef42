package mesh

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// patience is how long a condition is waited for that must come true.
const patience = 60 * time.Second

// eventually waits, with a deadline, for f to stop failing.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		<-tick.C
	}
}

var nextPort atomic.Uint32

// freePort is one on which nothing listens, below the range from which the
// kernel takes ports for connections.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12000 + int((uint32(os.Getpid())*137+nextPort.Add(1))%20000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

func freeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

// record keeps what a program writes.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) tail(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.text.String()
	return s[max(0, len(s)-n):]
}

// start runs a program until the test ends, and shows what it said last if the
// test fails.
func start(t testing.TB, name, path string, env []string, args ...string) *devstack.Process {
	t.Helper()
	said := &record{}
	p, err := devstack.Start(devstack.Command{Name: name, Path: path, Args: args, Env: env, Dir: t.TempDir(), Output: said})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Errorf("stopping %s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, said.tail(4000))
		}
	})
	return p
}

// kill ends a process without a chance to say good-bye.
func kill(t testing.TB, p *devstack.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}

// await waits until the URL answers 200, or the process has ended.
func await(t testing.TB, p *devstack.Process, what, url string) {
	t.Helper()
	eventually(t, what+" is ready", func() error {
		select {
		case <-p.Done():
			t.Fatal(p.Err())
		default:
		}
		r, err := http.Get(url)
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
}

// ordinary is an environment without settings of ours.
func ordinary(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, more...)
}
