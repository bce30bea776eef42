package serve_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/serve"
)

// recorded is a part that runs until stopped and writes down what happens.
func recorded(name string, log func(string)) serve.Part {
	stop := make(chan struct{})
	return serve.Part{
		Name:  name,
		Serve: func() error { <-stop; return nil },
		Stop:  func(context.Context) { log("stop " + name); close(stop) },
	}
}

func TestPartsStopInReverseOrderWhenTheContextEnds(t *testing.T) {
	var mu sync.Mutex
	var got []string
	log := func(s string) { mu.Lock(); defer mu.Unlock(); got = append(got, s) }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve.Run(ctx, time.Second, recorded("first", log), recorded("second", log)); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if want := "stop second,stop first"; strings.Join(got, ",") != want {
		t.Errorf("order = %v, want %s", got, want)
	}
}

func TestAPartThatFailsEndsTheOthersAndIsNamed(t *testing.T) {
	var stopped []string
	broken := serve.Part{
		Name:  "broken",
		Serve: func() error { return errors.New("no such luck") },
		Stop:  func(context.Context) {},
	}
	err := serve.Run(t.Context(), time.Second, recorded("whole", func(s string) { stopped = append(stopped, s) }), broken)
	if err == nil || err.Error() != "broken: no such luck" {
		t.Errorf("error = %v, want the name and the cause", err)
	}
	if len(stopped) != 1 {
		t.Errorf("stopped = %v, want the other part stopped", stopped)
	}
}

func TestARequestUnderWayFinishesWhileTheServerStops(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	l, err := serve.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "whole")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, 30*time.Second, serve.HTTP("http", l, &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}))
	}()
	body := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + serve.Address(l))
		if err != nil {
			body <- err.Error()
			return
		}
		defer func() { _ = r.Body.Close() }()
		b, _ := io.ReadAll(r.Body)
		body <- string(b)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-body; got != "whole" {
		t.Errorf("answer = %q, want the whole of it", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// While a server is drained it still answers, and each answer is the last one of
// its connection; a connection on which nothing is asked stays open.
func TestADrainedServerAnswersAndSendsItsClientsAway(t *testing.T) {
	var farewell serve.Farewell
	announced := make(chan struct{})
	l, err := serve.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := farewell.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whole") }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	part := serve.HTTP("http", l, &http.Server{Handler: handler, ReadHeaderTimeout: time.Second})
	go func() {
		ended <- serve.Run(ctx, 200*time.Millisecond, serve.Drained(part, time.Hour, func() { farewell.Say(); close(announced) }))
	}()
	ask := func(c net.Conn) *http.Response {
		t.Helper()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "whole" {
			t.Errorf("answer %q, %v", b, err)
		}
		return r
	}
	kept, err := net.Dial("tcp", serve.Address(l))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	if ask(kept).Close {
		t.Error("the connection ends before anything was announced")
	}
	cancel()
	<-announced
	if !ask(kept).Close { // an idle connection was not closed under the request
		t.Error("an answer while the server is drained does not end its connection")
	}
	fresh, err := net.Dial("tcp", serve.Address(l))
	if err != nil {
		t.Fatalf("a new connection while the server is drained: %v", err)
	}
	defer func() { _ = fresh.Close() }()
	if !ask(fresh).Close {
		t.Error("an answer while the server is drained does not end its connection")
	}
	if err := <-ended; err != nil { // at the end of the grace, an hour of waiting or not
		t.Errorf("Run: %v", err)
	}
}

func TestASocketLeftByAKilledProcessIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "serve") //nolint:usetesting // t.TempDir can exceed the 108 bytes of a socket path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()

	l, err := serve.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	defer func() { _ = l.Close() }()
	if got, want := serve.Address(l), "unix://"+path; got != want {
		t.Errorf("address = %q, want %q", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode = %v (%v), want 0660", info.Mode(), err)
	}
	if _, err := serve.Listen(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second listener got %v, want an error that says the socket is in use", err)
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serve.Listen(t.Context(), "unix://"+path); err == nil {
		t.Error("listened over a file that is no socket")
	}
	if b, _ := os.ReadFile(path); string(b) != "keep" {
		t.Errorf("the file now holds %q", b)
	}
}

func TestAWildcardHostIsReachedOverLoopback(t *testing.T) {
	l, err := serve.Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if got := serve.Address(l); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("address = %q, want loopback", got)
	}
}
