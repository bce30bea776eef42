package docs

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// set is of names that exist. One that ends in "_" stands for all that begin so.
type set map[string]bool

func (s set) has(name string) bool {
	if s[name] {
		return true
	}
	if !strings.HasSuffix(name, "_") {
		return false
	}
	for known := range s {
		if strings.HasPrefix(known, name) {
			return true
		}
	}
	return false
}

var (
	settingName = regexp.MustCompile(`\bGATEWAY_[A-Z0-9_]+`)
	settingRow  = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)`( or `…_FILE`)? \\|")
	metricName  = regexp.MustCompile(`\bgatehouse_[a-z0-9_]+`)
)

// settingsPage has the table of all settings, which `make check` keeps fresh.
const settingsPage = "docs/settings.md"

// settings are those of the table.
func settings(t *testing.T) set {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(settingsPage)))
	if err != nil {
		t.Fatal(err)
	}
	all := set{}
	for _, m := range settingRow.FindAllStringSubmatch(string(text), -1) {
		all[m[1]] = true
		if m[2] != "" {
			all[m[1]+"_FILE"] = true
		}
	}
	if len(all) < 50 {
		t.Fatalf("%s has %d settings", settingsPage, len(all))
	}
	return all
}

func TestEverySettingThatIsNamedExists(t *testing.T) {
	t.Parallel()
	known := settings(t)
	for _, p := range pages(t) {
		for i, line := range strings.Split(p.text, "\n") {
			for _, name := range settingName.FindAllString(line, -1) {
				// What Kubernetes makes of a Service, named as such a name.
				if !known.has(name) && name != "GATEWAY_PORT" {
					t.Errorf("%s:%d: there is no setting %s", p.name, i+1, name)
				}
			}
		}
	}
}

// names are those of metrics, and of what is ours in the database, which has the
// same prefix.
func names(t *testing.T, s *stack) set {
	t.Helper()
	all, err := collectNames(s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	collected     sync.Once
	collectedSet  set
	collectedFail error
)

func collectNames(s *stack) (set, error) {
	collected.Do(func() { collectedSet, collectedFail = readNames(s) })
	return collectedSet, collectedFail
}

func readNames(s *stack) (set, error) {
	all := set{}
	for _, ops := range []string{s.addresses.AuthzOps, s.addresses.LoginOps} {
		r, err := http.Get(ops + "/metrics")
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			all[name] = true
		}
	}
	// Those that need a setting of their own to be there, such as a fetched key set.
	literal := regexp.MustCompile(`"(gatehouse_[a-z0-9_]+)"`)
	err := eachSource([]string{"authz", "login", "internal", "cmd"}, func(text string) {
		for _, m := range literal.FindAllStringSubmatch(text, -1) {
			for _, end := range []string{"", "_bucket", "_sum", "_count"} {
				all[m[1]+end] = true
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(filepath.Join(s.tools, "psql"), "-At", s.addresses.DatabaseURL, "-c",
		`SELECT relname FROM pg_class UNION SELECT proname FROM pg_proc UNION SELECT tgname FROM pg_trigger UNION SELECT conname FROM pg_constraint UNION SELECT rolname FROM pg_roles`).Output()
	if err != nil {
		return nil, err
	}
	for _, name := range metricName.FindAllString(string(out), -1) {
		all[name] = true
	}
	return all, nil
}

// eachSource reads our Go files in these directories, without tests.
func eachSource(dirs []string, read func(text string)) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			read(string(text))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestEveryMetricThatIsNamedExists(t *testing.T) {
	known := names(t, shared(t))
	for _, p := range pages(t) {
		for i, line := range strings.Split(p.text, "\n") {
			for _, name := range metricName.FindAllString(line, -1) {
				if !known.has(name) {
					t.Errorf("%s:%d: there is no metric, and nothing in the database, of the name %s", p.name, i+1, name)
				}
			}
		}
	}
}

// commandTree answers what the command's own help says.
type commandTree struct {
	help map[string]string
}

var (
	subcommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]+) +\S`)
	flagInHelp = regexp.MustCompile(`(?m)^ +(?:(-[a-zA-Z]), )?(--[a-z-]+)`)
)

func (c *commandTree) helpOf(path string) (string, error) {
	if text, ok := c.help[path]; ok {
		return text, nil
	}
	text, err := command(append(strings.Fields(path), "--help")...)
	c.help[path] = text
	return text, err
}

// below are the commands under a path.
func (c *commandTree) below(path string) (set, error) {
	text, err := c.helpOf(path)
	if err != nil {
		return nil, err
	}
	all := set{}
	if _, list, found := strings.Cut(text, "Available Commands:\n"); found {
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
			all[m[1]] = true
		}
	}
	return all, nil
}

// judge says what is wrong with a command line as a page writes it: words and
// flags behind "gatehouse". "a|b" in the place of a command stands for both.
func (c *commandTree) judge(line string) error {
	paths := []string{""}
	known := set{}
	descending := true
	for i, word := range strings.Fields(line) {
		switch {
		case strings.HasPrefix(word, "-"):
			descending = false
			flag, _, _ := strings.Cut(word, "=")
			flag = strings.Trim(flag, "[](),.;:")
			if flag == "-" || flag == "--" || flag == "--help" || flag == "" {
				continue
			}
			for _, path := range paths {
				text, err := c.helpOf(path)
				if err != nil {
					return err
				}
				for _, m := range flagInHelp.FindAllStringSubmatch(text, -1) {
					known[path+m[1]], known[path+m[2]] = true, true
				}
				if !known[path+flag] {
					return fmt.Errorf("gatehouse %s knows no %s", path, flag)
				}
			}
		case descending:
			under, err := c.below(paths[0])
			if err != nil {
				return err
			}
			var next []string
			for _, one := range strings.Split(word, "|") {
				if under[one] {
					next = append(next, strings.TrimSpace(paths[0]+" "+one))
				} else if len(under) > 0 || i == 0 {
					return fmt.Errorf("gatehouse %s has no command %q", paths[0], one)
				}
			}
			if paths[0] == "" || len(next) > 0 {
				paths = next
			}
			descending = len(next) == 1
		}
	}
	return nil
}

var (
	inSpan = regexp.MustCompile("`(?:bin/)?gatehouse ([^`]+)`")
	// Up to what the shell takes for itself.
	inBlock = regexp.MustCompile(`(?:^|[\s;|(])(?:\$ )?(?:\S*bin/)?gatehouse ([^|<>;&#)\n\\]+)`)
)

func TestEveryCommandThatIsNamedExists(t *testing.T) {
	t.Parallel()
	tree := &commandTree{help: map[string]string{}}
	judge := func(place, line string) {
		if err := tree.judge(line); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	for _, p := range pages(t) {
		for _, m := range inSpan.FindAllStringSubmatch(p.prose, -1) {
			judge(p.name, m[1])
		}
		for _, b := range p.blocks {
			if b.kind == "sh" || b.kind == "console" {
				for _, m := range inBlock.FindAllStringSubmatch(b.text, -1) {
					judge(b.place(), m[1])
				}
			}
		}
	}
}

func TestEveryVerbOfMakeThatIsNamedExists(t *testing.T) {
	t.Setenv("GATEHOUSE_MAKEFILE", makefile())
	for _, p := range pages(t) {
		for _, m := range regexp.MustCompile("`make ([^`]+)`").FindAllStringSubmatch(p.prose, -1) {
			if err := dryMake(strings.Fields(m[1]), nil, io.Discard); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
		}
	}
}

func TestTheJudgeOfCommandsFindsWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	tree := &commandTree{help: map[string]string{}}
	for line, want := range map[string]string{
		"user disable|enable ada@example.com --wait 0s": "",
		"key rotate add --apply":                        "",
		"migrate --status --output json":                "",
		"user create ada@example.com":                   "",
		"user":                                          "",
		"usr list":                                      `no command "usr"`,
		"user lst":                                      `no command "lst"`,
		"user disable|destroy ada@example.com":          `no command "destroy"`,
		"migrate --dry-run":                             "knows no --dry-run",
	} {
		err := tree.judge(line)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
