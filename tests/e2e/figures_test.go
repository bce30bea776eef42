package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// resident is a process's memory of this kind, VmRSS or VmHWM, in KiB.
func resident(t *testing.T, p *devstack.Process, kind string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, kind+":"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s of process %d", kind, p.PID())
	return 0
}

func mib(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// TestMemoryIsBounded measures what idle connections and a large upload cost, and
// writes the figures into docs/edge.md: make edge-figures. It is no part of the
// other tests, because it needs most of a machine's ports.
func TestMemoryIsBounded(t *testing.T) {
	page := os.Getenv("GATEHOUSE_EDGE_FIGURES")
	if page == "" {
		t.Skip("make edge-figures runs it")
	}
	const (
		connections = 10_000
		upload      = 200 << 20
		// What is allowed: above it something holds what it should pass on.
		mostEach   = 64    // KiB of Envoy's for an idle connection
		mostUpload = 32768 // KiB of either's for an upload of any size
	)
	s := startStack(t, nil)
	rows := []string{"| | Envoy before | Envoy after | authz before | authz after |", "|---|---|---|---|---|"}

	// The upload first: memory that connections have used is not all given back.
	warm := bearer(token(t, claimsOf(s.newMember())))
	send := func(size int64, header http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/api/v1/ingest/upload", io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength, r.Header = -1, header
		a, err := (&http.Client{Timeout: 5 * time.Minute}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		if a.StatusCode != http.StatusOK {
			t.Fatal(a.Status)
		}
	}
	send(1<<20, warm)
	envoy, authz := resident(t, s.envoyProcess, "VmRSS"), resident(t, s.authzProcess, "VmRSS")
	s.ingest.forget()
	send(upload, warm)
	if got := s.ingest.only(t).Body; got != upload {
		t.Fatalf("%d bytes arrived", got)
	}
	// The most that there ever was, not what is left.
	envoyMost, authzMost := resident(t, s.envoyProcess, "VmHWM"), resident(t, s.authzProcess, "VmHWM")
	rows = append(rows, fmt.Sprintf("| an upload of 200 MiB of unknown length; after: the highest | %s | %s | %s | %s |", mib(envoy), mib(envoyMost), mib(authz), mib(authzMost)))
	if grown := max(envoyMost-envoy, authzMost-authz); grown > mostUpload {
		t.Errorf("an upload of 200 MiB took %s of memory", mib(grown))
	}

	envoy, authz = resident(t, s.envoyProcess, "VmRSS"), resident(t, s.authzProcess, "VmRSS")
	idle := make([]net.Conn, 0, connections)
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	ask := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := fmt.Fprint(c, "GET /api/v1/ingest/status HTTP/1.1\r\nHost: gate.test\r\n\r\n"); err != nil {
			return err
		}
		a, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		_, err = io.Copy(io.Discard, a.Body)
		if a.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("status %s", a.Status)
		}
		return err
	}
	for len(idle) < connections {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatalf("connection %d: %v", len(idle), err)
		}
		idle = append(idle, c)
		if err := ask(c); err != nil {
			t.Fatalf("connection %d: %v", len(idle), err)
		}
	}
	envoyAfter, authzAfter := resident(t, s.envoyProcess, "VmRSS"), resident(t, s.authzProcess, "VmRSS")
	each := (envoyAfter - envoy) / connections
	rows = append(rows, fmt.Sprintf("| 10,000 idle connections: %.1f KiB of Envoy's each | %s | %s | %s | %s |",
		float64(envoyAfter-envoy)/connections, mib(envoy), mib(envoyAfter), mib(authz), mib(authzAfter)))
	if each > mostEach {
		t.Errorf("an idle connection takes %d KiB", each)
	}
	// They are alive, first and last.
	for _, c := range []net.Conn{idle[0], idle[connections-1]} {
		if err := ask(c); err != nil {
			t.Errorf("an idle connection was lost: %v", err)
		}
	}
	writeFigures(t, page, rows)
}

func writeFigures(t *testing.T, page string, rows []string) {
	t.Helper()
	binary, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin: written by make edge-figures -->\n", "<!-- end -->\n"
	page = filepath.Clean(page)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), begin)
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("%s has no marks", page)
	}
	figures := fmt.Sprintf("`make edge-figures`, %s, Envoy %s, %s/%s, %d processors:\n\n%s\n",
		time.Now().UTC().Format(time.DateOnly), binary.Version, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), strings.Join(rows, "\n"))
	t.Log("\n" + figures)
	if err := os.WriteFile(page, []byte(before+begin+figures+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
