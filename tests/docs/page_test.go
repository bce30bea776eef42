package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository.
var root = filepath.Join("..", "..")

// page is one Markdown file.
type page struct {
	name   string // as of the root: docs/keys.md
	text   string
	prose  string // text without its blocks
	blocks []block
}

// block is a fenced one.
type block struct {
	page      string
	line      int // of the fence
	kind      string
	text      string
	directive string // what the comment above it says, before the colon
	argument  string // and after it
}

var (
	fence   = regexp.MustCompile("^( *)(```+)([^`]*)$")
	comment = regexp.MustCompile(`^ *<!-- (not-run|exit|as|values|refused)(?:: *(.*?))? -->$`)
)

// parse finds the blocks of a page.
func parse(name, text string) page {
	p := page{name: name, text: text}
	var prose strings.Builder
	var open *block
	var mark, indent string
	before := "" // the line above
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			open = &block{page: name, line: i + 1, kind: strings.TrimSpace(m[3])}
			indent, mark = m[1], m[2]
			if c := comment.FindStringSubmatch(before); c != nil {
				open.directive, open.argument = c[1], c[2]
			}
		case open != nil && m != nil && m[2] == mark && strings.TrimSpace(m[3]) == "":
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		default:
			prose.WriteString(line)
		}
		if open == nil {
			prose.WriteByte('\n')
		}
		before = line
	}
	if open != nil { // never closed: a kind that nobody knows
		open.kind = "unclosed " + open.kind
		p.blocks = append(p.blocks, *open)
	}
	p.prose = prose.String()
	return p
}

// pages are all of the manual, README first.
func pages(t testing.TB) []page {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") {
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names[2:])
	var all []page
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(name, string(text)))
	}
	return all
}

func TestABlockIsReadWithTheCommentAboveIt(t *testing.T) {
	t.Parallel()
	p := parse("x.md", "before\n<!-- not-run: needs a moon -->\n```sh\nfly\n```\nbetween\n\n- item\n\n  ```json\n  {}\n  ```\n```sh\nnever closed\n")
	want := []block{
		{page: "x.md", line: 3, kind: "sh", text: "fly\n", directive: "not-run", argument: "needs a moon"},
		{page: "x.md", line: 10, kind: "json", text: "{}\n"},
		{page: "x.md", line: 13, kind: "unclosed sh", text: "never closed\n\n"},
	}
	if !slices.Equal(p.blocks, want) {
		t.Errorf("got  %+v\nwant %+v", p.blocks, want)
	}
	if strings.Contains(p.prose, "fly") || !strings.Contains(p.prose, "between") {
		t.Errorf("prose is %q", p.prose)
	}
}
