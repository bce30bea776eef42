package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// call runs the command in this process. No database answers where it points.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	environ := []string{"GATEWAY_DATABASE_URL=postgres://127.0.0.1:1/nothing"}
	var out, errs bytes.Buffer
	code = run(t.Context(), args, environ, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongUseIsOneLineOnStderrAndCodeTwo(t *testing.T) {
	const hint = "see 'gatehouse --help'"
	tests := []struct {
		name string
		args string // words, "" as an empty one
		want string // the whole of stderr without "gatehouse: "; with … at its end, its beginning
	}{
		{"a flag in the place of a value", "explain --decision --request-id x", "--decision: its value is missing, --request-id comes next (one that begins so is written --decision=VALUE); see 'gatehouse explain --help'"},
		{"a misspelt flag in the place of a value", "up --state-dir --lisen x", "--state-dir: its value is missing, --lisen comes next (one that begins so is written --state-dir=VALUE); see 'gatehouse up --help'"},
		{"a short flag in the place of a value", "user list --after -o json", "--after: its value is missing, -o comes next (one that begins so is written --after=VALUE); see 'gatehouse user list --help'"},
		{"a flag in the place of a short one's value", "user list -o --limit 3", "--output: its value is missing, --limit comes next (one that begins so is written --output=VALUE); see 'gatehouse user list --help'"},
		{"the help in the place of a value", "replay x --config --help", "--config: its value is missing, --help comes next (one that begins so is written --config=VALUE); see 'gatehouse replay --help'"},
		{"no command", "", `missing command for "gatehouse", one of: …`},
		{"an unknown command", "frobnicate", `unknown command "frobnicate" for "gatehouse"; ` + hint},
		{"a misspelt command", "migrat", `unknown command "migrat" for "gatehouse"; did you mean 'gatehouse migrate'; ` + hint},
		{"an unknown command with flags", "lock rotate --all", `unknown command "lock" for "gatehouse"; ` + hint},
		{"a key for a terminal", "key generate", "one of --out FILE and --stdout is needed: a private key goes to no terminal unasked"},
		{"a key in two places", "key generate --out x --stdout", "one of --out FILE and --stdout is needed: …"},
		{"a key for none", "key generate --alg none --stdout", `--alg or --kid: unknown signature algorithm "none"`},
		{"a rotation of nothing", "key rotate add", "--file FILE is needed: GATEWAY_JWT_KEYS_FILE is not set"},
		{"a step without a key", "key rotate promote", "missing KID; see 'gatehouse key rotate --help'"},
		{"an unknown flag of the program", "--bogus", "unknown flag: --bogus; " + hint},
		{"a noun without a verb", "user", `missing command for "gatehouse user", one of: create, disable, enable, import, list, revoke, set-password, show, unlock; see 'gatehouse user --help'`},
		{"a misspelt verb", "user crate ada@example.com", `unknown command "crate" for "gatehouse user"; did you mean 'gatehouse user create'; see 'gatehouse user --help'`},
		{"an unknown flag", "user list --bogus", "unknown flag: --bogus; see 'gatehouse user list --help'"},
		{"an unknown output", "user list --output yaml", `invalid argument "yaml" for "-o, --output" flag: must be json or text; see 'gatehouse user list --help'`},
		{"an argument where none is taken", "user list extra", `too many arguments: 1, and 0 expected; see 'gatehouse user list --help'`},
		{"a negative limit", "user list --limit -1", "--limit -1: must not be negative"},
		{"a limit that is no number", "user list --limit many", `invalid argument "many" for "--limit" flag…`},
		{"a missing user", "user show", "missing EMAIL|ID; see 'gatehouse user show --help'"},
		{"a missing email", "user create", "missing EMAIL; see 'gatehouse user create --help'"},
		{"two users", "user disable a@example.com b@example.com", `too many arguments: 2, and 1 expected; see 'gatehouse user disable --help'`},
		{"a missing company name", "company create", "missing NAME; see 'gatehouse company create --help'"},
		{"an empty company name", `company create ""`, "NAME: must not be empty"},
		{"a company by its name", "company suspend acme", `ID "acme": not a UUID…`},
		{"the nil company", "company members 00000000-0000-0000-0000-000000000000", `ID "00000000-0000-0000-0000-000000000000": not a UUID…`},
		{"a missing company", "company resume", "missing ID; see 'gatehouse company resume --help'"},
		{"a token for nobody", "token mint", "missing --user EMAIL|ID; see 'gatehouse token mint --help'"},
		{"a life that is no duration", "token mint --user a@example.com --ttl soon", `invalid argument "soon" for "--ttl" flag…`},
		{"a token for no company", "token mint --user a@example.com --company acme", `--company "acme": not a UUID…`},
		{"a token for nobody's company", "token mint --user a@example.com --company 00000000-0000-0000-0000-000000000000", `--company "00000000-0000-0000-0000-000000000000": the nil UUID is nobody's`},
		{"a user of nobody's company", "user create a@example.com --no-password --company 00000000-0000-0000-0000-000000000000", `--company "00000000-0000-0000-0000-000000000000": the nil UUID is nobody's`},
		{"a token as an argument", "token inspect test-token", "a token is not taken from the arguments, which every process of the machine can read; use standard input or --file FILE"},
		{"a token to revoke as an argument", "token revoke test-token", "a token is not taken from the arguments, which every process of the machine can read; use standard input or --file FILE"},
		{"an invitation of nobody", "company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11", "missing EMAIL; see 'gatehouse company invite --help'"},
		{"an invitation of an address and an account", "company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 a@example.com --user b@example.com", `too many arguments: 2, and 1 expected; see 'gatehouse company invite --help'`},
		{"an invitation to a name", "company invite acme a@example.com", `ID "acme": not a UUID…`},
		{"an invitation of no address", "company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 ada", `"ada" is not an email address`},
		{"an invitation to two roles", "company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 a@example.com --role user,admin", `--role "user,admin": must be one word without a comma`},
		{"an invitation that is over", "company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 a@example.com --expires 1s", "--expires 1s: must be at least 1m and at most 8760h"},
		{"an invitation by its address", "invite revoke a@example.com", `ID "a@example.com": not a UUID…`},
		{"a session that is none", "session end a@example.com x", `SESSION "x": not a UUID…`},
		{"a session and all of them", "session end a@example.com 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 --all", `too many arguments: …`},
		{"no session", "session end a@example.com", "missing SESSION; see 'gatehouse session end --help'"},
		{"no records", "audit --limit 0", "--limit 0: must be at least 1 and at most 10000"},
		{"records of the future", "audit --since -1h", "--since -1h0m0s: must not be negative"},
		{"two files to validate", "envoy validate a b", `too many arguments: 2, and 1 expected; see 'gatehouse envoy validate --help'`},
		{"an empty address", `up --listen ""`, "--listen: empty, want host:port"},
		{"no time to wait", "migrate --lock-wait 0s", "--lock-wait 0s: must be more than nothing"},
		{"an unknown shell", "completion klingon", `unknown command "klingon" for "gatehouse completion"; see 'gatehouse completion --help'`},
		{"help of an unknown command", "help nonsense", `unknown command "nonsense" for "gatehouse"; ` + hint},
		{"help of an unknown verb", "help user befriend", `unknown command "befriend" for "gatehouse user"; see 'gatehouse user --help'`},
		{"an unknown verb that is asked for help", "user befriend --help", `unknown command "befriend" for "gatehouse user"; see 'gatehouse user --help'`},

		// Of later versions, whatever flags they come with.
		{"user befriend", "user befriend ada@example.com", `unknown command "befriend" for "gatehouse user"; …`},

		{"nothing to explain", "explain", "one of --path PATH, --decision FILE|-, --request-id ID and --watch is needed; see 'gatehouse explain --help'"},
		{"a token to explain as an argument", "explain --path /x test-token", "a token is not taken from the arguments, which every process of the machine can read; use standard input or --token-file FILE"},
		{"a token to watch", "explain --watch eyJhbGciOiJub25lIn0.e30.x", "a token is not taken from the arguments, which every process of the machine can read; use standard input or --token-file FILE"},
		{"a request and a decision", "explain --path /x --decision x", "only one of --path, --decision and --watch can be meant"},
		{"a request that is watched", "explain --path /x --watch", "only one of --path, --decision and --watch can be meant"},
		{"a token and none", "explain --path /x --no-token --token-file x", "--token-file and --no-token contradict each other"},
		{"a token of a decision", "explain --decision x --token-file x", "--token-file, --no-token, --mode, --roles and --at go with --path"},
		{"a filter of nothing", "explain --path /x --reason ok", "--all, --from-start, --reason, --user and --route go with --watch"},
		{"a decision before the first", "explain --decision x --nth 0", "--nth goes with --decision and counts from 1"},
		{"a time that is none", "explain --path /x --at noon", "--at: not an RFC 3339 time, such as 2031-05-17T10:00:00Z"},
		{"an empty path", `explain --path ""`, "--path: empty, want a path such as /api/v1/query/chats"},
		{"no log to watch", "explain --watch", "no decision log: GATEWAY_DECISION_LOG is not set, and 'gatehouse up' has left none; name a file, or - for standard input"},
		{"nothing to replay", "replay", "missing LOG; see 'gatehouse replay --help'"},
		{"a replay under nothing new", "replay x", "--config NEW is needed: a file of settings or a route table"},
		{"a replay that shows less than nothing", "replay x --config y --limit -1", "--limit -1: must not be negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			for i, a := range args {
				args[i] = strings.Trim(a, `"`)
			}
			code, stdout, stderr := call(t, args...)
			if code != exitMisuse {
				t.Errorf("exit code %d, want %d", code, exitMisuse)
			}
			if stdout != "" {
				t.Errorf("stdout %q, want nothing", stdout)
			}
			got, prefixed := strings.CutPrefix(stderr, "gatehouse: ")
			beginning, cut := strings.CutSuffix(tt.want, "…")
			if !prefixed || strings.Count(stderr, "\n") != 1 || cut && !strings.HasPrefix(got, beginning) || !cut && got != tt.want+"\n" {
				t.Errorf("stderr %q, want %q", stderr, "gatehouse: "+tt.want)
			}
		})
	}
}

// Every flag of every command that takes a value says so when another flag stands in
// the value's place, and takes one with an equals sign as it is.
func TestNoFlagTakesTheNextOneForItsValue(t *testing.T) {
	var walk func(cmd *cobra.Command)
	seen := 0
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
			name := regexp.MustCompile(`--([a-z-]+)`).FindStringSubmatch(line)
			if name == nil || cmd.Flags().Lookup(name[1]) == nil || cmd.Flags().Lookup(name[1]).NoOptDefVal != "" {
				continue
			}
			seen++
			args := append(slices.Clone(path), "--"+name[1], "--output", "json")
			code, stdout, stderr := call(t, args...)
			if want := "gatehouse: --" + name[1] + ": its value is missing, --output comes next"; code != exitMisuse || stdout != "" || !strings.HasPrefix(stderr, want) {
				t.Errorf("%v: exit code %d, %q %q, want %q", args, code, stdout, stderr, want)
			}
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRoot(&invocation{}))
	if seen < 50 {
		t.Errorf("only %d flags were tried", seen)
	}
	if err := swallowed(newRoot(&invocation{}), []string{"explain", "--decision=--odd", "--request-id", "-", "--", "--path", "--mode"}); err != nil {
		t.Errorf("a value with an equals sign, standard input, and what stands behind --: %v", err)
	}
}

func TestEveryCommandExplainsItselfWithAnExample(t *testing.T) {
	for _, command := range []string{
		"up", "migrate", "user create", "user list", "user show", "user disable", "user enable", "user set-password", "user revoke",
		"company create", "company list", "company members", "company suspend", "company resume", "token mint", "token inspect", "envoy render", "envoy validate", "envoy lint", "envoy diff", "envoy schema", "doctor", "explain", "replay", "version",
	} {
		t.Run(command, func(t *testing.T) {
			words := strings.Fields(command)
			code, stdout, stderr := call(t, append(words, "--help")...)
			if code != exitFine || stderr != "" {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			for _, want := range []string{"Usage:\n  gatehouse " + command, "Examples:\n  "} {
				if !strings.Contains(stdout, want) {
					t.Errorf("the help has no %q:\n%s", want, stdout)
				}
			}
			if _, same, _ := call(t, append([]string{"help"}, words...)...); same != stdout {
				t.Errorf("'help %s' differs from '%s --help':\n%s", command, command, same)
			}
		})
	}
}

func TestCompletionAndVersion(t *testing.T) {
	tests := []struct {
		name string
		args string
		want string // somewhere in stdout
	}{
		{"a script for a shell", "completion bash", "__start_gatehouse"},
		{"the words of a noun", "__complete user s", "set-password\t"},
		{"the words of a flag", "__complete user list --output j", "json"},
		{"the version as text", "version", "gatehouse "},
		{"the version as a flag", "--version", "gatehouse "},
		{"the version as JSON", "version -o json", `"go": "go1.`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := call(t, strings.Fields(tt.args)...)
			if code != exitFine || !strings.Contains(stdout, tt.want) {
				t.Errorf("exit code %d, stdout %q, want %q in it; stderr %q", code, stdout, tt.want, stderr)
			}
		})
	}
}
