package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	span    = regexp.MustCompile("`[^`\n]*`")
)

// anchors are what GitHub makes of the headings of a page.
func anchors(p page) set {
	all := set{}
	for _, m := range heading.FindAllStringSubmatch(p.prose, -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(m[1]) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		all[b.String()] = true
	}
	return all
}

// faultOf says what is wrong with where a link of a page leads, "" for nothing.
func faultOf(from, target string, known map[string]page) string {
	if strings.HasPrefix(target, "https://") {
		return ""
	}
	if strings.Contains(target, "://") {
		return "neither https nor a file"
	}
	file, anchor, _ := strings.Cut(target, "#")
	name := from
	if file != "" {
		name = path.Join(path.Dir(from), file)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
		return "there is no " + name
	}
	if anchor == "" {
		return ""
	}
	p, ok := known[name]
	if !ok || !anchors(p)[anchor] {
		return name + " has no heading #" + anchor
	}
	return ""
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	known := map[string]page{}
	linked := set{"README.md": true}
	for _, p := range pages(t) {
		known[p.name] = p
	}
	for _, p := range known {
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(p.prose, ""), -1) {
			if fault := faultOf(p.name, m[1], known); fault != "" {
				t.Errorf("%s: [](%s): %s", p.name, m[1], fault)
			}
			if file, _, _ := strings.Cut(m[1], "#"); file != "" {
				linked[path.Join(path.Dir(p.name), file)] = true
			}
		}
	}
	for name := range known {
		if !linked[name] {
			t.Errorf("no page leads to %s", name)
		}
	}
}

func TestALinkThatLeadsNowhereIsFound(t *testing.T) {
	t.Parallel()
	known := map[string]page{"README.md": parse("README.md", "# What it's for, `now`\n")}
	for _, tc := range []struct{ target, want string }{
		{"#what-its-for-now", ""},
		{"#elsewhere", "README.md has no heading #elsewhere"},
		{"docs/none.md", "there is no docs/none.md"},
		{"Makefile", ""},
		{"http://example.com", "neither https nor a file"},
		{"https://example.com", ""},
	} {
		if got := faultOf("README.md", tc.target, known); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.target, got, tc.want)
		}
	}
}
