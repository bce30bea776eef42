package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The cases of fuzzing for each operation; those of coverage come on top. They are
// what a run takes its time for: three to eight minutes in all.
const (
	casesWithToken    = 25
	casesWithoutToken = 8
	runLimit          = 25 * time.Minute
)

// tally is how often each operation was answered with each status.
type tally map[string]map[int]int

// best is the lowest status.
func (t tally) best(operation string) int {
	best := 999
	for status := range t[operation] {
		best = min(best, status)
	}
	return best
}

// No fault, and no status, type, header or body that is not described, whatever is
// sent, by somebody who is logged in and by a stranger.
func TestNothingIsAnsweredThatIsNotDescribed(t *testing.T) {
	if os.Getenv("GATEHOUSE_API") == "" {
		t.Skip("takes minutes: make check-api")
	}
	tools := installed(t)
	run(t, tools, "python3", "-m", "openapi_spec_validator", descriptionFile)
	g := startGate(t)
	seed := cmp.Or(os.Getenv("SEED"), strconv.Itoa(1+rand.IntN(999_999)))
	t.Logf("make check-api SEED=%s sends the same again", seed)
	everybody, bearers := operations(t)

	t.Run("with a token", func(t *testing.T) {
		seen, out, err := g.schemathesis(t, tools, seed, "yes", casesWithToken, g.Gateway+"/openapi.json")
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		for _, operation := range slices.Concat(everybody, bearers) {
			if seen.best(operation) >= 300 && !slices.Contains(untold, operation) {
				t.Errorf("%s never went well, so that little was learnt of it: %v", operation, seen[operation])
			}
		}
	})
	t.Run("without one", func(t *testing.T) {
		seen, out, err := g.schemathesis(t, tools, seed, "no", casesWithoutToken, g.Gateway+"/openapi.json")
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		for _, operation := range bearers {
			if seen.best(operation) < 400 {
				t.Errorf("%s went well for a stranger: %v", operation, seen[operation])
			}
		}
	})
	t.Run("what is not described is found", func(t *testing.T) {
		text, _ := readDescription(t)
		other := filepath.Join(t.TempDir(), "openapi.json")
		if err := os.WriteFile(other, bytes.Replace(text, []byte(` is running!$`), []byte(` is asleep!$`), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		_, out, err := g.schemathesis(t, tools, seed, "no", 3, other, "--url", g.Gateway, "--include-operation-id", "root")
		if err == nil || !strings.Contains(out, "is asleep!") {
			t.Errorf("it was not: %v\n%s", err, out)
		}
	})
}

// untold operations go well only for whoever reads the mail, or are left out by
// schemathesis, which has fetched the description already.
var untold = []string{"password_reset", "email_verify", "openapi"}

// operations are the ids of those that anybody may use, and of those that take a token.
func operations(t *testing.T) (everybody, bearers []string) {
	t.Helper()
	text, _ := readDescription(t)
	var described struct {
		Paths map[string]map[string]struct {
			ID       string           `json:"operationId"`
			Security []map[string]any `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	for _, methods := range described.Paths {
		for _, op := range methods {
			if len(op.Security) > 0 {
				bearers = append(bearers, op.ID)
			} else {
				everybody = append(everybody, op.ID)
			}
		}
	}
	return everybody, bearers
}

// schemathesis runs it against the gate, as a user of its own.
func (g *gate) schemathesis(t *testing.T, tools []string, seed, withToken string, cases int, location string, more ...string) (seen tally, out string, err error) {
	t.Helper()
	const password = "the first words of this run"
	email := fmt.Sprintf("%d@example.com", time.Now().UnixNano())
	g.command(t, password, "user", "create", email, "--company", g.company, "--role", "admin", "--password-stdin")
	answers := filepath.Join(t.TempDir(), "tally.json")
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-c", "from schemathesis.cli import schemathesis; schemathesis()",
		"--config-file", filepath.Join(here, "schemathesis.toml"), "run", location,
		"--phases", "coverage,fuzzing", "--max-examples", strconv.Itoa(cases), "--seed", seed, "--no-color",
	}
	cmd := exec.CommandContext(ctx, "python3", append(args, more...)...)
	cmd.Dir = filepath.Dir(answers) // it leaves things behind where it runs
	cmd.Env = slices.Concat(os.Environ(), tools, []string{
		"API_GATEWAY=" + g.Gateway, "API_COMPANY=" + g.company, "API_EMAIL=" + email, "API_PASSWORD=" + password,
		"API_WITH_TOKEN=" + withToken, "API_SEED=" + seed, "API_TALLY=" + answers,
		"SCHEMATHESIS_HOOKS=" + filepath.Join(here, "hooks.py"),
	})
	said, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(answers)
	if readErr != nil {
		t.Fatalf("%v\n%s", readErr, said)
	}
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	for operation, statuses := range seen {
		for status := range statuses {
			if status >= 500 {
				t.Errorf("%s was answered %d", operation, status)
			}
		}
	}
	return seen, string(said), err
}

// installed fetches what requirements.txt pins, once, and returns what Python has to
// know to find it.
func installed(t *testing.T) []string {
	t.Helper()
	pins, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pins)
	dir := filepath.Join(cache, "gatehouse", "api-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err != nil {
		part := dir + ".part"
		if err := os.RemoveAll(part); err != nil {
			t.Fatal(err)
		}
		run(t, nil, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", part, "--requirement", "requirements.txt")
		// Whole or not at all: a fetch that was cut short is no cache.
		if err := os.Rename(part, dir); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"}
}
