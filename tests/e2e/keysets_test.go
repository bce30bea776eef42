package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A key set that cannot be used is told before anything is started, with the
// setting and the place of every key that is wrong, and never with the key.
func TestAServiceDoesNotStartWithAKeySetThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const (
		ed     = `"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
		half   = `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"`
		p256   = `"kty":"EC","crv":"P-256","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"`
		signs  = `,"key_ops":["sign"]`
		prefix = "GATEWAY_JWT_KEYS: "
	)
	for _, test := range []struct {
		name, program, set string
		secret             string
		want               []string // lines of stderr
	}{
		{"no key signs", "login", `{"keys":[{` + ed + half + `}]}`, "", []string{prefix + `no key that can sign: a shared secret, a private key or a JWK with "key_ops":["sign"] is needed`}},
		{"no key signs, and the secret does not step in", "login", `{"keys":[{` + ed + half + `}]}`, secret, []string{prefix + `no key that can sign: a shared secret, a private key or a JWK with "key_ops":["sign"] is needed`}},
		{"two keys sign", "login", `{"keys":[{` + ed + half + signs + `},{` + p256 + signs + `}]}`, "", []string{prefix + "keys[1]: is to sign (key_ops), and so is keys[0]; only one key can"}},
		{"the same for authz", "authz", `{"keys":[{` + ed + half + signs + `},{` + p256 + signs + `}]}`, "", []string{prefix + "keys[1]: is to sign (key_ops), and so is keys[0]; only one key can"}},
		{"every fault at once", "authz", `{"keys":[{` + ed + `,"kid":"a"},{` + p256 + `,"kid":"a"},{"kty":"oct","k":"dGVzdA"}]}`, "", []string{prefix + "keys[1]: has the kid of keys[0]", prefix + "keys[2]: alg is missing"}},
		{"no JSON", "authz", `{"keys":[{` + ed, "", []string{prefix + "not strict JSON"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(binaries, test.program))
			cmd.Dir = t.TempDir()
			cmd.Env = []string{
				"GATEWAY_JWT_KEYS=" + test.set, "GATEWAY_JWT_SECRET=" + test.secret, "GATEWAY_DATABASE_URL=postgres://127.0.0.1:1/nothing",
				"GATEWAY_LEGACY_TOKENS_UNTIL=2031-05-17T00:00:00Z", "GATEWAY_LOG_LEVEL=ERROR",
			}
			if test.secret == "" {
				cmd.Env = append(cmd.Env[:1], cmd.Env[2:]...)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Errorf("%v, want exit code 2", err)
			}
			if got := strings.TrimSpace(stderr.String()); got != strings.Join(test.want, "\n") {
				t.Errorf("said\n%s\nwant\n%s", got, strings.Join(test.want, "\n"))
			}
		})
	}
}

// Whoever finds a fault, all of them are told at once, in the order of the manual.
func TestAServiceTellsFaultsOfKeysAndRoutesWithAllOthers(t *testing.T) {
	t.Parallel()
	const halves = `"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	empty := func(half string) string {
		return "-----BEGIN " + half + ` KEY-----\nAQI=\n-----END ` + half + " KEY-----"
	}
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(routes, []byte("routes:\n- name: a\n  colour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, program string
		environ       []string
		want          []string // what the lines of stderr begin with
	}{
		{
			"a JWK set, a route table and a number", "authz",
			[]string{`GATEWAY_JWT_KEYS={"keys":[{` + halves + `,"kid":"a"},{` + halves + `,"kid":"a"}]}`, "GATEWAY_ROUTES=" + routes, "GATEWAY_POSTGRES_POOL_MAX=many"},
			[]string{"GATEWAY_JWT_KEYS: keys[1]: has the kid of keys[0]", "GATEWAY_POSTGRES_POOL_MAX: ", "GATEWAY_ROUTES: " + routes},
		},
		{
			"a JWK set beside an algorithm that is none, and a log in no directory", "authz",
			[]string{"GATEWAY_JWT_ALGORITHM=none", `GATEWAY_JWT_KEYS={"keys":[x`, "GATEWAY_DECISION_LOG=/nowhere/at/all", "GATEWAY_ROUTES=" + routes},
			[]string{"GATEWAY_JWT_ALGORITHM: ", "GATEWAY_JWT_KEYS: not strict JSON", "GATEWAY_ROUTES: " + routes, "GATEWAY_DECISION_LOG: lies in no directory that is there: /nowhere/at"},
		},
		{
			"both halves of a key pair", "login",
			[]string{"GATEWAY_JWT_ALGORITHM=EdDSA", "GATEWAY_JWT_PUBLIC_KEY=" + empty("PUBLIC"), "GATEWAY_JWT_PRIVATE_KEY=" + empty("PRIVATE"), "GATEWAY_JWT_LEEWAY=often"},
			[]string{"GATEWAY_JWT_PUBLIC_KEY: the PEM block holds no readable public key", "GATEWAY_JWT_PRIVATE_KEY: the PEM block holds no readable private key", "GATEWAY_JWT_LEEWAY: "},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(binaries, test.program))
			cmd.Dir = t.TempDir()
			cmd.Env = append([]string{"GATEWAY_DATABASE_URL=postgres://127.0.0.1:1/nothing", "GATEWAY_LOG_LEVEL=INFO"}, test.environ...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Errorf("%v, want exit code 2", err)
			}
			left := test.want
			for line := range strings.Lines(stderr.String()) {
				if len(left) > 0 && strings.HasPrefix(line, left[0]) {
					left = left[1:]
				} else if !strings.HasPrefix(line, "GATEWAY_") {
					t.Errorf("more than faults is said: %s", line)
				}
			}
			if len(left) > 0 {
				t.Errorf("said\n%s\nwithout, or not in the place of,\n%s", stderr.String(), strings.Join(left, "\n"))
			}
		})
	}
}

// authz needs no key that signs.
func TestAuthzStartsWithPublicKeysAlone(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	s := newStack(t, "postgres://127.0.0.1:1/nothing", map[string]string{
		"GATEWAY_JWT_SECRET":    "",
		"GATEWAY_JWT_KEYS":      `{"keys":[` + publicJWK(t, key, "theirs") + `]}`,
		"GATEWAY_TOKEN_PROFILE": "supabase",
		"GATEWAY_USER_CHECK":    "off",
	})
	s.startAuthz()
	if got := metric(t, s.authzOps, `gatehouse_authz_tokens_verified_total{alg="ES256",key="theirs"}`); got != "0" {
		t.Errorf("a key that verified nothing yet is counted %q", got)
	}
}
