package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upRun is one run of `gatehouse up`.
type upRun struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *record
	readyFile      string
	done           chan struct{}
}

// ready is the ready file, to the letter of the contract.
type ready struct {
	Gateway     string `json:"gateway"`
	AuthzGRPC   string `json:"authz_grpc"`
	AuthzOps    string `json:"authz_ops"`
	Login       string `json:"login"`
	LoginOps    string `json:"login_ops"`
	EnvoyAdmin  string `json:"envoy_admin"`
	DatabaseURL string `json:"database_url"`
}

// up starts it with these settings and arguments alone.
func up(t *testing.T, settings map[string]string, args ...string) *upRun {
	t.Helper()
	u := &upRun{
		t: t, stdout: &record{}, stderr: &record{}, done: make(chan struct{}),
		readyFile: filepath.Join(t.TempDir(), "ready.json"),
	}
	u.cmd = exec.Command(filepath.Join(binaries, "gatehouse"), append([]string{"up", "--ready-file", u.readyFile}, args...)...)
	for _, name := range []string{"PATH", "HOME", "ENVOY_BIN", "PG_BIN"} {
		if value := os.Getenv(name); value != "" {
			u.cmd.Env = append(u.cmd.Env, name+"="+value)
		}
	}
	for name, value := range settings {
		u.cmd.Env = append(u.cmd.Env, name+"="+value)
	}
	u.cmd.Dir = t.TempDir()
	u.cmd.Stdout, u.cmd.Stderr = u.stdout, u.stderr
	u.cmd.WaitDelay = 5 * time.Second
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = u.cmd.Wait()
		close(u.done)
	}()
	t.Cleanup(func() {
		u.signal(syscall.SIGTERM)
		u.ended(30 * time.Second)
		if t.Failed() {
			t.Logf("up said:\n%s\n%s", u.stdout.tail(500), u.stderr.tail(1500))
		}
	})
	return u
}

func (u *upRun) signal(s syscall.Signal) { _ = u.cmd.Process.Signal(s) }

// ended waits for the end and returns the exit code, -1 after a signal.
func (u *upRun) ended(limit time.Duration) int {
	u.t.Helper()
	watch := stopwatch()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !overdue(watch, limit) {
		select {
		case <-u.done:
			return u.cmd.ProcessState.ExitCode()
		case <-tick.C:
		}
	}
	u.signal(syscall.SIGKILL)
	<-u.done
	u.t.Errorf("up did not end within %v (%v have passed)", limit, watch.Passed())
	return -1
}

// ready waits for the ready file. It is there whole or not at all.
func (u *upRun) ready() ready {
	u.t.Helper()
	var text []byte
	within(u.t, 60*time.Second, "up is ready", func() (err error) {
		select {
		case <-u.done:
			u.t.Fatalf("up ended with %d", u.cmd.ProcessState.ExitCode())
		default:
		}
		text, err = os.ReadFile(u.readyFile)
		return err
	})
	var names map[string]string
	if err := json.Unmarshal(text, &names); err != nil {
		u.t.Fatalf("%v: %s", err, text)
	}
	for _, name := range []string{"gateway", "authz_grpc", "authz_ops", "login", "login_ops", "envoy_admin", "database_url"} {
		if names[name] == "" {
			u.t.Errorf("the ready file has no %s: %s", name, text)
		}
	}
	if len(names) != 7 {
		u.t.Errorf("the ready file has other members too: %s", text)
	}
	var r ready
	if err := json.Unmarshal(text, &r); err != nil {
		u.t.Fatal(err)
	}
	return r
}

// stack is the harness for what runs.
func (r ready) stack(t *testing.T) *stack {
	return &stack{
		t: t, gateway: r.Gateway, address: strings.TrimPrefix(r.Gateway, "http://"), login: r.Login,
		authzOps: r.AuthzOps, loginOps: r.LoginOps, database: r.DatabaseURL,
	}
}

// process is one of the machine, told from later ones with its number by the
// moment of its start.
type process struct {
	pid     int
	name    string // of its program
	command string
	since   string
}

func processOf(pid int) (p process, parent int, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, 0, err
	}
	// The name stands in brackets and may hold anything.
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:]))
	if fields[0] == "Z" {
		return p, 0, errors.New("a zombie")
	}
	parent, err = strconv.Atoi(fields[1])
	command, _ := os.ReadFile(dir + "/cmdline")
	return process{
		pid: pid, name: string(stat[open+1 : end]), since: fields[19],
		command: strings.ReplaceAll(string(command), "\x00", " "),
	}, parent, err
}

// descendants are all processes under one.
func descendants(t *testing.T, root int) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("needs /proc")
	}
	children := map[int][]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, parent, err := processOf(pid); err == nil {
			children[parent] = append(children[parent], p)
		}
	}
	var out []process
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			out = append(out, c)
			queue = append(queue, c.pid)
		}
	}
	return out
}

// wantGone waits until none of them is left.
func wantGone(t *testing.T, all []process) {
	t.Helper()
	within(t, 10*time.Second, "no process is left behind", func() error {
		for _, p := range all {
			if now, _, err := processOf(p.pid); err == nil && now.since == p.since {
				return fmt.Errorf("%d still runs: %s", p.pid, p.command)
			}
		}
		return nil
	})
}

func named(all []process, part string) []process {
	var out []process
	for _, p := range all {
		if strings.Contains(p.command, part) {
			out = append(out, p)
		}
	}
	return out
}
