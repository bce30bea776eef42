package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// TestEveryBlockHoldsWhatItSays takes the pages one after the other, because they
// share a stack and its limits.
func TestEveryBlockHoldsWhatItSays(t *testing.T) {
	var left []string
	for _, p := range pages(t) {
		t.Run(p.name, func(t *testing.T) {
			if len(p.blocks) == 0 {
				return
			}
			v := visit{t: t, stack: shared(t), dir: t.TempDir()}
			v.stack.restore(t)
			if err := os.Symlink(binaries, filepath.Join(v.dir, "bin")); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{v.stack.readyFile, v.stack.decisions, filepath.Join(state, "mail")} {
				if err := os.Symlink(file, filepath.Join(v.dir, filepath.Base(file))); err != nil {
					t.Fatal(err)
				}
			}
			v.shell = newShell(t, v.dir, v.stack.environ())
			for _, b := range p.blocks {
				if b.directive == "not-run" {
					if len(b.argument) < 8 {
						t.Errorf("%s: left alone without a reason", b.place())
					}
					left = append(left, b.place()+": "+b.argument)
					continue
				}
				if err := v.check(b); err != nil {
					t.Errorf("%s: %v", b.place(), err)
				}
			}
		})
	}
	t.Logf("%d blocks are not run:\n%s", len(left), strings.Join(left, "\n"))
}

// visit is one page on its way.
type visit struct {
	t     *testing.T
	stack *stack
	shell *shell
	dir   string
}

func (b block) place() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

func (v visit) check(b block) error {
	if b.directive == "as" {
		if filepath.Base(b.argument) != b.argument {
			return fmt.Errorf("%q is no name of a file here", b.argument)
		}
		if err := os.WriteFile(filepath.Join(v.dir, b.argument), []byte(v.stack.in.Replace(b.text)), 0o600); err != nil {
			return err
		}
	}
	check := map[string]func(block) error{
		"sh": v.commands, "console": v.commands, "yaml": v.yaml, "json": isJSON, "sql": v.sql,
		"mermaid": isMermaid, "env": v.env, "promql": v.promql,
	}[b.kind]
	if check == nil {
		return fmt.Errorf("a block of kind %q is neither run nor checked; see the convention in tests/docs/doc.go", b.kind)
	}
	return check(b)
}

// lookLimit is how long a command that looks is repeated.
const lookLimit = 10 * time.Second

// commands stops at the first that goes wrong: the others rest on it.
func (v visit) commands(b block) error {
	want := 0
	if b.directive == "exit" {
		var err error
		if want, err = strconv.Atoi(b.argument); err != nil {
			return err
		}
	}
	all := steps(b.kind, b.text)
	shows := slices.ContainsFunc(all, func(s step) bool { return s.shown != "" })
	for i, s := range all {
		shown := v.stack.in.Replace(s.shown)
		var output string
		var code int
		_ = poll(lookLimit, func() (bool, error) {
			output, code = v.shell.run(v.stack.in.Replace(s.command))
			return !shows || !s.looks() || match(shown, output), nil
		})
		if i < len(all)-1 && code != 0 || i == len(all)-1 && code != want {
			return fmt.Errorf("%s\nended with %d: %s", s.command, code, output)
		}
		if shows && !match(shown, output) {
			return fmt.Errorf("%s\nprinted\n%s\nand not, as shown,\n%s", s.command, output, shown)
		}
	}
	return nil
}

// yaml is told from what stands in it at the top.
func (v visit) yaml(b block) error {
	if b.directive == "values" {
		return chartTakes(b.text)
	}
	for document := range strings.SplitSeq(b.text, "\n---\n") {
		var top map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &top); err != nil {
			return err
		}
		has := func(keys ...string) bool {
			for _, k := range keys {
				if top[k] == nil {
					return false
				}
			}
			return true
		}
		switch {
		case has("routes"):
			if err := v.routeTable(b); err != nil {
				return err
			}
		case has("static_resources"):
			if err := v.envoyConfiguration(document); err != nil {
				return err
			}
		case has("apiVersion", "kind"):
			meta, _ := top["metadata"].(map[string]any)
			if top["kind"] != "Kustomization" && meta["name"] == nil && meta["generateName"] == nil {
				return fmt.Errorf("a %v without a name", top["kind"])
			}
		case has("issuers"): // read by the commands that follow it
		case has("services"), has("groups"), has("scrape_configs"), has("meshConfig"):
		default:
			return fmt.Errorf("yaml with %v at the top is nothing that is known here", slices.Sorted(maps.Keys(top)))
		}
	}
	return nil
}

var atLine = regexp.MustCompile(`^line ([0-9]+): `)

func (v visit) routeTable(b block) error {
	file := filepath.Join(v.t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		return err
	}
	_, err := command("envoy", "render", "--routes", file)
	if b.directive != "refused" {
		return err
	}
	// The reader of a text says "line 3", the one of a file "routes.yaml:3".
	words := atLine.ReplaceAllString(b.argument, "routes.yaml:$1: ")
	if err == nil || !strings.Contains(err.Error(), words) {
		return fmt.Errorf("the table is judged %w, and not refused with %q", err, b.argument)
	}
	return nil
}

func (v visit) envoyConfiguration(text string) error {
	file := filepath.Join(v.t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := command("envoy", "lint", file); err != nil {
		return err
	}
	_, err := command("envoy", "validate", file)
	return err
}

// chartTakes holds values against the chart's schema.
func chartTakes(text string) error {
	schema, err := os.ReadFile(filepath.Join(root, "helm", "gatehouse", "values.schema.json"))
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.schema.json", document); err != nil {
		return err
	}
	compiled, err := compiler.Compile("values.schema.json")
	if err != nil {
		return err
	}
	// What a reader leaves out, the chart's own values give.
	var values map[string]any
	defaults, err := os.ReadFile(filepath.Join(root, "helm", "gatehouse", "values.yaml"))
	if err != nil {
		return err
	}
	for _, layer := range [][]byte{defaults, []byte(text)} {
		var top map[string]any
		if err := yaml.UnmarshalStrict(layer, &top); err != nil {
			return err
		}
		values = merged(values, top)
	}
	return compiled.Validate(values)
}

// merged lays values over others as helm does: maps by their keys, all else whole.
func merged(under, over map[string]any) map[string]any {
	all := maps.Clone(under)
	if all == nil {
		all = map[string]any{}
	}
	for k, v := range over {
		below, isMap := all[k].(map[string]any)
		if above, ok := v.(map[string]any); ok && isMap {
			v = merged(below, above)
		}
		all[k] = v
	}
	return all
}

func isJSON(b block) error {
	for line := range strings.Lines(b.text) {
		if json.Valid([]byte(b.text)) {
			return nil
		}
		// JSON lines are JSON too.
		if line = strings.TrimSpace(line); line != "" && !json.Valid([]byte(line)) {
			return fmt.Errorf("not JSON: %s", line)
		}
	}
	return nil
}

func (v visit) sql(b block) error {
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	var out strings.Builder
	return query(ctx, v.stack.addresses.DatabaseURL, b.text, &out)
}

// env holds the names, then has the command read all of it, as a file .env.
func (v visit) env(b block) error {
	// Here, because names of files are of the working directory; and not for long,
	// because the commands that follow would read it too.
	file := filepath.Join(v.dir, ".env")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	known := settings(v.t)
	for line := range strings.Lines(b.text) {
		name, _, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(name, "#") && !known.has(name) {
			return fmt.Errorf("there is no setting %s", name)
		}
	}
	// Into a file: with TLS there are others beside it.
	_, err := commandIn(v.dir, "envoy", "render", "--output", filepath.Join(v.t.TempDir(), "envoy.yaml"))
	return err
}

func (v visit) promql(b block) error {
	for _, name := range metricName.FindAllString(b.text, -1) {
		if !names(v.t, v.stack).has(name) {
			return fmt.Errorf("there is no metric %s", name)
		}
	}
	return nil
}

// restore gives a page the demo user as `up` made it.
func (s *stack) restore(t *testing.T) {
	t.Helper()
	var out strings.Builder
	err := query(t.Context(), s.addresses.DatabaseURL,
		`UPDATE users SET is_active = true, tokens_valid_after = NULL WHERE email = 'demo@example.com';
		 UPDATE companies SET is_active = true WHERE NOT is_active;
		 TRUNCATE login_throttle`, &out)
	if err != nil || !strings.HasPrefix(out.String(), "UPDATE 1\n") {
		t.Fatalf("%v: %s", err, out.String())
	}
}

func TestABlockThatIsNotAsItSaysIsFound(t *testing.T) {
	s := shared(t)
	dir := t.TempDir()
	v := visit{t: t, stack: s, dir: dir, shell: newShell(t, dir, s.environ())}
	for _, tc := range []struct {
		name string
		block
		want string // a part of the fault
	}{
		{"of no kind", block{text: "x\n"}, "neither run nor checked"},
		{"of an unknown kind", block{kind: "toml", text: "x = 1\n"}, "neither run nor checked"},
		{"never closed", block{kind: "unclosed sh", text: "true\n"}, "neither run nor checked"},
		{"a command fails", block{kind: "sh", text: "false\ntrue\n"}, "ended with 1"},
		{"a command that should fail does not", block{kind: "sh", text: "true\n", directive: "exit", argument: "1"}, "ended with 0"},
		{"another output", block{kind: "console", text: "$ echo a\nb\n"}, "and not, as shown"},
		{"output of nothing", block{kind: "console", text: "a\n"}, "and not, as shown"},
		{"a table with an unknown key", block{kind: "yaml", text: "upstreams: { a: {} }\nroutes: []\nnope: 1\n"}, "nope"},
		{"a table that is not refused", block{kind: "yaml", directive: "refused", argument: "x", text: "upstreams: { query: {} }\nroutes: [{ name: q, prefix: /q, methods: [GET], mode: strict, upstream: query }]\n"}, "not refused"},
		{"a configuration with an open admin page", block{kind: "yaml", text: "admin: { address: { socket_address: { address: 0.0.0.0, port_value: 9901 } } }\nstatic_resources: { listeners: [] }\n"}, "envoy lint"},
		{"a manifest without a name", block{kind: "yaml", text: "apiVersion: v1\nkind: Service\n"}, "without a name"},
		{"yaml of nothing known", block{kind: "yaml", text: "a: 1\n"}, "nothing that is known here"},
		{"values that the chart does not have", block{kind: "yaml", directive: "values", text: "nope: 1\n"}, "nope"},
		{"no JSON", block{kind: "json", text: "{a}\n"}, "not JSON"},
		{"SQL of a table that is not there", block{kind: "sql", text: "SELECT * FROM nobody;\n"}, "nobody"},
		{"a setting that does not exist", block{kind: "env", text: "GATEWAY_NOPE=1\n"}, "no setting GATEWAY_NOPE"},
		{"a setting with a wrong value", block{kind: "env", text: "GATEWAY_LOG_LEVEL=loud\n"}, "GATEWAY_LOG_LEVEL"},
		{"a metric that does not exist", block{kind: "promql", text: "rate(gatehouse_nope_total[5m])\n"}, "no metric gatehouse_nope_total"},
		{"a file elsewhere", block{kind: "json", text: "{}\n", directive: "as", argument: "../x"}, "no name of a file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := v.check(tc.block); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
