package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// What a line of a picture may be, by its kind. This is no parser of Mermaid: it
// finds the slip of a pen, a picture of a kind that is not used here, and an
// arrow between those that nobody introduced.
var (
	sequenceLine = regexp.MustCompile(`^(autonumber|(participant|actor) \w+( as .+)?|Note (over|left of|right of) \w+(,\w+)?: ?.+|(opt|alt|else|loop|par|and|critical|break|rect)( .*)?|end|\w+-?-?>>?[+-]?\w+: .+|\w+ ?-?-[>)x]+[+-]?\w+: ?.+)$`)
	sequenceWho  = regexp.MustCompile(`^(\w+?) ?-?-[>)x]+[+-]?(\w+):`)
	flowLine     = regexp.MustCompile(`^(subgraph .+|end|direction (LR|TB|RL|BT)|(classDef|class|style|linkStyle) .+|\w+([\[({].*[\])}])?(:::\w+)?( *(-->|---|-\.->|==>|<-->|-- .+ -->|-\. .+ \.->)(\|[^|]+\|)? *\w+([\[({].*[\])}])?)*)$`)
	stateLine    = regexp.MustCompile(`^(direction (LR|TB|RL|BT)|(\[\*\]|\w+) --> (\[\*\]|\w+)( ?: ?.+)?|state .+|note (left|right) of \w+.*|end note|\w+ ?: .+|\})$`)
)

func isMermaid(b block) error {
	lines := strings.Split(strings.TrimSpace(b.text), "\n")
	kinds := []struct {
		begins string
		line   *regexp.Regexp
		opens  *regexp.Regexp
	}{
		{"sequenceDiagram", sequenceLine, regexp.MustCompile(`^(opt|alt|loop|par|critical|break|rect)\b`)},
		{"flowchart ", flowLine, regexp.MustCompile(`^subgraph\b`)},
		{"stateDiagram-v2", stateLine, regexp.MustCompile(`^never`)},
	}
	for _, k := range kinds {
		if !strings.HasPrefix(lines[0], k.begins) {
			continue
		}
		open := 0
		introduced := set{}
		for _, line := range lines[1:] {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "%%") {
				continue
			}
			if !k.line.MatchString(line) {
				return fmt.Errorf("a %s has no line like %q", strings.TrimSpace(k.begins), line)
			}
			for _, pair := range []string{"()", "[]", "{}"} {
				if k.line == flowLine && strings.Count(line, pair[:1]) != strings.Count(line, pair[1:]) {
					return fmt.Errorf("brackets without a counterpart in %q", line)
				}
			}
			words := strings.Fields(line)
			if words[0] == "participant" || words[0] == "actor" {
				introduced[words[1]] = true
			}
			if who := sequenceWho.FindStringSubmatch(line); k.line == sequenceLine && who != nil && !(introduced[who[1]] && introduced[who[2]]) {
				return fmt.Errorf("nobody introduced who speaks in %q", line)
			}
			if k.opens.MatchString(line) {
				open++
			}
			if line == "end" {
				open--
			}
		}
		if open != 0 {
			return fmt.Errorf("%d parts are opened and not ended", open)
		}
		return nil
	}
	return fmt.Errorf("%q is no kind of picture that is used here", lines[0])
}

func TestASlipInAPictureIsFound(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		good       bool
	}{
		{"a sequence", "sequenceDiagram\n  participant A as One\n  participant B\n  A->>B: hello\n  B-->>A: hi\n  opt maybe\n  Note over A,B: a word\n  end\n", true},
		{"a flow", "flowchart LR\n  a[One] -->|says| b[(Two)]\n  b --> c{Three}\n", true},
		{"somebody unknown", "sequenceDiagram\n  participant A\n  A->>B: hello\n", false},
		{"a part without an end", "sequenceDiagram\n  participant A\n  opt x\n  A->>A: hello\n", false},
		{"a bracket too few", "flowchart LR\n  a[One --> b[Two]\n", false},
		{"another kind", "pie\n", false},
	} {
		if err := isMermaid(block{text: tc.text}); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
