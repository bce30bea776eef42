package devstack_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// runner starts a PostgreSQL, an Envoy and a program that ignores every
// polite signal, prints their ids, and waits to be killed.
func runner() int {
	fields := strings.Fields(os.Getenv(helperEnv))
	bin, envoy, state, config := fields[1], fields[2], fields[3], fields[4]
	fail := func(err error) int {
		fmt.Println("failed", err)
		return 1
	}
	p, err := devstack.StartPostgres(context.Background(), devstack.PostgresOptions{Bin: bin, StateDir: state, Output: os.Stderr})
	if err != nil {
		return fail(err)
	}
	e, err := devstack.Start(devstack.Command{Name: "envoy", Path: envoy, Args: []string{"-c", config, "--use-dynamic-base-id"}, Output: os.Stderr})
	if err != nil {
		return fail(err)
	}
	stubborn, err := devstack.Start(devstack.Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM INT HUP; while :; do read _ </dev/zero; done"}})
	if err != nil {
		return fail(err)
	}
	// The threads that started them must matter to nobody: let the scheduler
	// end some.
	for range 50 {
		go func() { runtime.LockOSThread() }()
	}
	fmt.Println("pids", p.PID(), e.PID(), stubborn.PID())
	select {}
}

const bareEnvoy = `{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}}}`

func TestAKilledRunnerLeavesNoOrphan(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells children of their parent's death; elsewhere the next run clears up")
	}
	config := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(config, []byte(bareEnvoy), 0o600); err != nil {
		t.Fatal(err)
	}
	state := stateDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join([]string{"runner", machinePostgres(t).Path, machineEnvoy(t).Path, state, config}, " "))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pids := make([]int, 3)
	if _, err := fmt.Sscanf(line, "pids %d %d %d", &pids[0], &pids[1], &pids[2]); err != nil {
		t.Fatalf("the runner said %q", line)
	}
	for _, pid := range pids {
		if gone(pid) {
			t.Fatalf("%d ended before its runner", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for i, name := range []string{"postgres", "envoy", "the stubborn one"} {
		eventually(t, name+" ends with its runner", func() bool { return gone(pids[i]) })
	}
	// And the data is fit for the next run.
	startPostgres(t, machinePostgres(t).Path, state)
}

func shell(t *testing.T, script string) *devstack.Process {
	t.Helper()
	p, err := devstack.Start(devstack.Command{Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Stop(ctx)
	})
	return p
}

func TestAProcessThatEndsSaysHowAndWhatItSaidLast(t *testing.T) {
	for _, c := range []struct {
		name, script, want string
	}{
		{"a failure", "echo one; echo two >&2; exit 3", "shell exited: exit status 3; its last lines: one / two"},
		{"an end without one", "exit 0", "shell exited: exit status 0"},
		{"a signal", "kill -9 $$", "shell exited: signal: killed"},
		{"a last line without its end", "printf unfinished; exit 1", "shell exited: exit status 1; its last lines: unfinished"},
		{"a line that holds a whole log is cut", "printf '%0400d' 7; exit 1", "shell exited: exit status 1; its last lines: " + strings.Repeat("0", 300) + "…"},
		{"a grandchild that keeps the output open", "sleep 60 & exit 1", "shell exited: exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := shell(t, c.script)
			select {
			case <-p.Done():
			case <-within(t, 20*time.Second).Done():
				t.Fatal("it did not end")
			}
			if got := p.Err().Error(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			_ = devstack.KillGroup(p)
		})
	}
}

func TestStopAsksFirstAndThenKillsTheWholeGroup(t *testing.T) {
	polite := shell(t, "trap 'exit 0' TERM; while :; do sleep 0.05; done")
	if err := polite.Stop(within(t, 10*time.Second)); err != nil {
		t.Errorf("a process that stops when asked: %v", err)
	}
	if err := polite.Stop(within(t, time.Second)); err != nil {
		t.Errorf("stopping once more: %v", err)
	}

	marker := filepath.Join(t.TempDir(), "pid")
	stubborn := shell(t, "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >"+marker+"; while :; do sleep 1; done' & while :; do sleep 1; done")
	var child int
	eventually(t, "the grandchild writes its id", func() bool {
		b, err := os.ReadFile(marker)
		if err != nil {
			return false
		}
		n, _ := fmt.Sscan(string(b), &child)
		return n == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := stubborn.Stop(ctx); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("error %v, want one that says it was killed", err)
	}
	eventually(t, "the grandchild is gone", func() bool { return gone(child) })
}

func TestAProcessGetsNoEnvironmentOfOurs(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", "test-secret-that-must-not-travel-anywhere")
	p := shell(t, "env; exit 1")
	<-p.Done()
	if got := p.Err().Error(); strings.Contains(got, "test-secret") {
		t.Errorf("the child saw %q", got)
	}
}

func TestTheFirstPartThatDiesEndsTheGroupAndIsNamed(t *testing.T) {
	var g devstack.Group
	g.Add(shell(t, "trap 'exit 0' TERM; while :; do sleep 0.05; done"))
	if err := g.Failed(); err != nil {
		t.Fatalf("all run, but %v", err)
	}
	g.Add(shell(t, "echo no more; exit 7"))
	err := g.Wait(within(t, 20*time.Second))
	if want := "shell exited: exit status 7; its last lines: no more"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	if err := g.Stop(within(t, 20*time.Second), time.Second); err != nil {
		t.Error(err)
	}
}

func TestAGroupStopsInReverseOrder(t *testing.T) {
	order := filepath.Join(t.TempDir(), "order")
	var g devstack.Group
	for _, name := range []string{"first", "second", "third"} {
		started := filepath.Join(t.TempDir(), "started")
		g.Add(shell(t, "trap 'echo "+name+" >>"+order+"; exit 0' TERM; : >"+started+"; while :; do sleep 0.02; done"))
		eventually(t, name+" starts", func() bool { _, err := os.Stat(started); return err == nil })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Wait(ctx); err != nil {
		t.Errorf("a wait that was ended: %v, want nil", err)
	}
	if err := g.Stop(within(t, 20*time.Second), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(order)
	if want := "third\nsecond\nfirst\n"; err != nil || string(got) != want {
		t.Errorf("stopped in the order %q (%v), want %q", got, err, want)
	}
}

func TestAPublicPortThatIsTakenIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	err = devstack.CheckFree(l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "port "+port+" is taken") {
		t.Errorf("error %v, want one that names port %s", err, port)
	}
	if runtime.GOOS == "linux" && !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("error %v, want one that names the process", err)
	}
	if err := devstack.CheckFree("127.0.0.1:0"); err != nil {
		t.Errorf("any free port: %v", err)
	}
}
