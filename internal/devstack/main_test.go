package devstack_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// helperEnv makes the test binary play a program that devstack runs or is
// run by.
const helperEnv = "DEVSTACK_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		helper, ok := map[string]func() int{
			"runner":  runner,
			"service": service,
		}[strings.Fields(name)[0]]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such helper:", name)
			os.Exit(2)
		}
		os.Exit(helper())
	}
	os.Exit(m.Run())
}

// eventually polls until ok holds, and fails the test with what if it never
// does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	over := time.After(20 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-over:
			t.Fatalf("never: %s", what)
		case <-again.C:
		}
	}
}

func gone(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		// A zombie waits for whoever inherited it, which is not our affair.
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, "Z")
	}
	return syscall.Kill(pid, 0) == syscall.ESRCH
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// machinePostgres is the PostgreSQL that this machine uses.
func machinePostgres(t *testing.T) devstack.Binary {
	t.Helper()
	b, err := devstack.PostgresBinaries(within(t, 5*time.Minute), devstack.FindOptions{PostgresBin: os.Getenv("PG_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func machineEnvoy(t *testing.T) devstack.Binary {
	t.Helper()
	b, err := devstack.EnvoyBinary(within(t, 5*time.Minute), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
