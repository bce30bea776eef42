package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/decisionlog"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

func refusal(t testing.TB, id string) string {
	t.Helper()
	line, err := decisionlog.AppendLine(nil, &gatehousev1.Decision{
		Outcome: gatehousev1.Outcome_OUTCOME_DENY, Reason: "not_authenticated", Route: "query", Mode: "strict",
		RequestId: id, Method: "GET", Path: "/api/v1/query/x", Status: 401,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

// A log is followed by its name: what comes into the file, half lines included, into
// the one that takes its place when it is full, and into one that was cut.
func TestALogIsWatchedAcrossItsFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	const name = "decisions.jsonl"
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	add(refusal(t, "before"))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errs transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"explain", "--watch"}, []string{"GATEWAY_DECISION_LOG=" + name}, strings.NewReader(""), &out, &errs)
	}()
	told := func(id string) {
		t.Helper()
		until(t, id+" is told", func() bool { return strings.Contains(out.String(), "id "+id+"\n") })
	}
	until(t, "the log is watched", func() bool { return strings.Contains(errs.String(), "watching ") })

	add(refusal(t, "first"))
	told("first")
	half := refusal(t, "in-two-halves")
	add(half[:40])
	add(half[40:])
	told("in-two-halves")
	add(refusal(t, "last-of-the-old-file"))
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	add(refusal(t, "first-of-the-new-file"))
	told("last-of-the-old-file")
	told("first-of-the-new-file")
	add("no decision\n" + refusal(t, "second-of-the-new-file"))
	told("second-of-the-new-file")
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	add(refusal(t, "cut"))
	told("cut")
	if strings.Contains(out.String(), "before") || strings.Count(out.String(), "\n             id ") != 6 {
		t.Errorf("told:\n%s", out.String())
	}
	interrupt()
	if code := <-ended; code != exitFine {
		t.Errorf("interrupted, it ended with %d: %s", code, errs.String())
	}
}

func TestALogThatIsNotThereYetIsWaitedFor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errs transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"explain", "--watch", name}, nil, strings.NewReader(""), &out, &errs)
	}()
	until(t, "it waits", func() bool { return strings.Contains(errs.String(), "waiting for ") })
	if err := os.WriteFile(name, []byte(refusal(t, "at-last")), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it tells", func() bool { return strings.Contains(out.String(), "id at-last") })
	interrupt()
	if code := <-ended; code != exitFine {
		t.Errorf("it ended with %d: %s", code, errs.String())
	}
}

// An interrupt ends the watch of a pipe that says nothing too.
func TestAPipeThatIsSilentIsLeftAtAnInterrupt(t *testing.T) {
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs transcript
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"explain", "--watch", "-"}, nil, r, &out, &errs) }()
	_, _ = io.WriteString(w, refusal(t, "heard"))
	until(t, "it tells", func() bool { return strings.Contains(out.String(), "id heard") })
	interrupt()
	if code := <-ended; code != exitFine {
		t.Errorf("it ended with %d: %s", code, errs.String())
	}
}

// endless is a log that exists nowhere, and looks at how much is kept of it.
type endless struct {
	line []byte
	left int
	rest []byte
	most uint64
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.left == 0 {
			return 0, io.EOF
		}
		if e.left--; e.left%1000 == 0 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			e.most = max(e.most, m.HeapAlloc)
		}
		e.rest = e.line
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func TestALongLogIsReplayedInLittleMemory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("new.env", []byte("GATEWAY_LOG_LEVEL=DEBUG\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A member that this version does not know is ignored, and read all the same.
	line := strings.Replace(refusal(t, "x"), `{"kind":"decision"`, `{"kind":"decision","later":"`+strings.Repeat("x", 16<<10)+`"`, 1)
	const lines = 8_000 // 128 MiB
	log := &endless{line: []byte(line), left: lines}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"replay", "-", "--config", "new.env"}, []string{"GATEWAY_JWT_SECRET=" + explainedSecret, "GATEWAY_DATABASE_URL=postgres://127.0.0.1:1/nothing"}, log, &out, &errs)
	if code != exitFine || !strings.HasPrefix(out.String(), fmt.Sprintf("%d decisions", lines)) {
		t.Fatalf("%d %s%s", code, out.Bytes(), errs.Bytes())
	}
	if log.most > 64<<20 {
		t.Errorf("%d MiB were kept", log.most>>20)
	}
}

// A database that does not answer is told as what it is to authz: a 503.
func TestARequestIsExplainedThoughTheDatabaseIsDown(t *testing.T) {
	t.Chdir(t.TempDir())
	token := legacyToken("0a0a0a0a-1111-4222-8333-444444444444", "0b0b0b0b-1111-4222-8333-444444444444")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"explain", "--path", "/api/v1/query/x"},
		[]string{"GATEWAY_JWT_SECRET=" + explainedSecret, "GATEWAY_DATABASE_URL=postgres://app:test-secret-password@127.0.0.1:1/nothing"},
		strings.NewReader("Bearer "+token+"\n"), &out, &errs)
	if code != exitFine {
		t.Fatalf("%d %s", code, errs.Bytes())
	}
	for _, want := range []string{"ERROR 503 unavailable", "FAIL  store", "retry-after: 1", "grpc-status: 14 (UNAVAILABLE)", "does not answer from here"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q:\n%s", want, out.Bytes())
		}
	}
	if strings.Contains(out.String()+errs.String(), "test-secret-password") {
		t.Error("the password of the database is shown")
	}
}

// Property: whatever a token says and whatever is asked for, neither the token, nor
// its signature, nor an email, nor the key is shown.
func FuzzNoTokenIsShown(f *testing.F) {
	const marker = "Zq7hunter7qZ"
	f.Add(`{"alg":"HS256"}`, `"exp":32503680000,"sub":"0a0a0a0a-1111-4222-8333-444444444444"`, "/api/v1/query/x", "GET", true)
	f.Add(`{"alg":"none"}`, `"exp":1`, "/nowhere?token="+marker, "OPTIONS", false)
	f.Add(`{`, `"sub":null`, "/\x1b[2J", "\n", false)
	f.Add(`{"alg":"HS256","kid":"`+strings.Repeat("k", 300)+`"}`, `"aud":["a","authenticated"],"role":"authenticated"`, "", "", true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, header, claims, path, method string, good bool) {
		payload := `{"email":"` + marker + `@example.com",` + claims + `}`
		raw := signed(header, payload)
		signature := raw[strings.LastIndexByte(raw, '.')+1:]
		if !good {
			raw += marker
			signature += marker
		}
		file := filepath.Join(dir, "token")
		if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if path == "" {
			path = "/"
		}
		for _, output := range []string{"text", "json"} {
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"explain", "--path", path, "--method", method, "--token-file", file, "--output", output},
				[]string{"GATEWAY_JWT_SECRET=" + explainedSecret, "GATEWAY_TOKEN_PROFILE=supabase", "GATEWAY_USER_CHECK=off"}, strings.NewReader(""), &out, &errs)
			if code != exitFine && code != exitMisuse {
				t.Fatalf("%d %s", code, errs.Bytes())
			}
			if code == exitMisuse && strings.TrimSpace(raw) != "" {
				t.Fatalf("%s", errs.Bytes())
			}
			shown := out.String() + errs.String()
			for _, secret := range []string{raw, signature, explainedSecret, marker + "@"} {
				if len(secret) >= 8 && strings.Contains(shown, secret) {
					t.Fatalf("%q is shown:\n%s", secret, shown)
				}
			}
			if output == "text" && strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
				t.Fatalf("moves the cursor:\n%q", shown)
			}
		}
	})
}

func TestGRPCMessagesAreEscaped(t *testing.T) {
	for in, want := range map[string]string{"plain ~": "plain ~", "100 %": "100 %25", "é\n": "%C3%A9%0A"} {
		if got := grpcMessage(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTimesOfAnExplanationAreThoseAskedFor(t *testing.T) {
	at, err := instant("2031-05-17T10:00:00+02:00")
	if err != nil || !at.Equal(time.Date(2031, 5, 17, 8, 0, 0, 0, time.UTC)) {
		t.Errorf("%v %v", at, err)
	}
}
