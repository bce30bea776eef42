package docs

import (
	"regexp"
	"strings"
	"testing"
)

const anything = "…"

// match says whether output is what a page shows of it.
func match(shown, output string) bool {
	var pattern strings.Builder
	pattern.WriteString("^")
	for line := range strings.Lines(strings.TrimRight(shown, "\n") + "\n") {
		line = strings.TrimRight(line, " \n")
		if strings.TrimSpace(line) == anything {
			pattern.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		for i, part := range strings.Split(line, anything) {
			if i > 0 {
				pattern.WriteString(`[^\n]*`)
			}
			pattern.WriteString(regexp.QuoteMeta(part))
		}
		pattern.WriteString(` *\n`)
	}
	pattern.WriteString("$")
	output = strings.ReplaceAll(output, "\r", "")
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimRight(output, "\n") + "\n")
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		shown, output string
		want          bool
	}{
		{"the same text matches", "a\nb\n", "a\nb\n", true},
		{"another text does not", "a\nb\n", "a\nc\n", false},
		{"a line too many does not", "a\n", "a\nb\n", false},
		{"a line too few does not", "a\nb\n", "a\n", false},
		{"an ellipsis stands for text in its line", "id=…, ok\n", "id=42, ok\n", true},
		{"and not for a line break", "id=…, ok\n", "id=4\n2, ok\n", false},
		{"one alone stands for lines", "a\n…\nd\n", "a\nb\nc\nd\n", true},
		{"or none", "a\n…\nd\n", "a\nd\n", true},
		{"indented too", "a\n    …\n", "a\nb\n", true},
		{"signs of patterns are themselves", "a.b (c)\n", "axb (c)\n", false},
		{"nothing shown is nothing printed", "", "a\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := match(tc.shown, tc.output); got != tc.want {
				t.Errorf("match = %v, want %v", got, tc.want)
			}
		})
	}
}
