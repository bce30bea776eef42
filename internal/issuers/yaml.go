package issuers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// yamlReader takes the document apart by its nodes, which know their lines. What an
// operator did not write down is not guessed: no key in another letter case, no word
// for a truth, no second document.
type yamlReader struct {
	faults Faults
}

func (y *yamlReader) fault(line int, in, format string, args ...any) {
	y.faults = append(y.faults, Fault{Line: line, In: in, Text: fmt.Sprintf(format, args...)})
}

// document is the one document of a file; nil: there is none.
func document(data []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading YAML: %w", err)
	}
	var first, second yaml.Node
	if err := loader.Load(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading YAML: %w", err)
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, fmt.Errorf("reading YAML: %w", err)
	default:
		return nil, Faults{{Line: second.Line, Text: "a second document begins here, and only one is read"}}
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		return nil, nil
	}
	return first.Content[0], nil
}

// itself is what an alias stands for.
func itself(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// shown is a node in a fault: its kind, and never its text, which may be a secret in
// the wrong place.
func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	}
	return "this"
}

// field is a key of a mapping, by its reader.
type field func(*yaml.Node)

// object reads the keys of a mapping and returns their lines. Every key may be there
// once.
func (y *yamlReader) object(n *yaml.Node, in string, fields map[string]field) map[string]int {
	n = itself(n)
	at := map[string]int{}
	if n.Kind != yaml.MappingNode {
		y.fault(n.Line, in, "want a mapping, not %s", shown(n))
		return at
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], itself(n.Content[i+1])
		read, known := fields[key.Value]
		switch first, twice := at[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			y.fault(key.Line, in, "a key is a word, not %s", shown(key))
		case !known:
			y.fault(key.Line, in, "unknown key %q, want one of %s%s", brief(key.Value), strings.Join(slices.Sorted(maps.Keys(fields)), ", "), hint(key.Value))
		case twice:
			y.fault(key.Line, in, "key %s is given twice, first in line %d", key.Value, first)
		default:
			at[key.Value] = key.Line
			read(value)
		}
	}
	return at
}

// hint answers keys that people look for in vain.
func hint(key string) string {
	switch key {
	case "secret", "jwks", "public_key", "private_key", "private_key_file":
		return "; keys stand in files of their own, and nobody else's private key belongs here"
	case "<<":
		return "; merge keys hide what an issuer may do"
	}
	return ""
}

func brief(text string) string {
	if len(text) > 40 {
		return text[:40] + "…"
	}
	return text
}

func (y *yamlReader) list(n *yaml.Node, in, key string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		y.fault(n.Line, in, "%s: want a list, not %s", key, shown(n))
		return
	}
	for _, item := range n.Content {
		each(itself(item))
	}
}

// scalar is the text of a value with one of these tags.
func (y *yamlReader) scalar(n *yaml.Node, in, key, want string, tags ...string) (string, bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.ShortTag()) {
		y.fault(n.Line, in, "%s: want %s, not %s", key, want, shown(n))
		return "", false
	}
	return n.Value, true
}

const quotable = "text, in quotes where YAML reads it as something else"

// longestText bounds every text of the file.
const longestText = 1000

// text reads printable text that is not empty.
func (y *yamlReader) text(in, key string, to *string) field {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, quotable, "!!str")
		switch {
		case !ok:
		case text == "":
			y.fault(n.Line, in, "%s: is empty", key)
		case len(text) > longestText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			y.fault(n.Line, in, "%s: want at most %d bytes of printable text", key, longestText)
		default:
			*to = text
		}
	}
}

func (y *yamlReader) texts(in, key string, to *[]string) field {
	return func(n *yaml.Node) {
		y.list(n, in, key, func(item *yaml.Node) {
			var text string
			y.text(in, key, &text)(item)
			if text != "" {
				*to = append(*to, text)
			}
		})
	}
}

func (y *yamlReader) boolean(in, key string, to *bool) field {
	return func(n *yaml.Node) {
		if text, ok := y.scalar(n, in, key, "true or false", "!!bool"); ok {
			*to = strings.EqualFold(text, "true")
		}
	}
}

// one reads one of a few words. off is a truth of older YAML, and a word here.
func (y *yamlReader) one(in, key string, to *string, words ...string) field {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, strings.Join(words, " or "), "!!str", "!!bool")
		switch {
		case !ok:
		case !slices.Contains(words, text):
			y.fault(n.Line, in, "%s: want %s", key, strings.Join(words, " or "))
		default:
			*to = text
		}
	}
}

func (y *yamlReader) duration(in, key string, to *time.Duration) field {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, "a duration such as 30s", "!!str", "!!int")
		if !ok {
			return
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > time.Hour {
			y.fault(n.Line, in, "%s: want 0s to 1h, such as 30s", key)
			return
		}
		*to = d
	}
}

func (y *yamlReader) instant(in, key string, to *time.Time) field {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, "an RFC 3339 time such as 2031-06-01T00:00:00Z", "!!str", "!!timestamp")
		if !ok {
			return
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			y.fault(n.Line, in, "%s: want an RFC 3339 time such as 2031-06-01T00:00:00Z", key)
			return
		}
		*to = at
	}
}
