// Package strictyaml reads what an operator wrote down in YAML, and nothing that was
// not: one document, every key known and there once, no word for a number. Whatever is
// wrong comes at once, each fault with its line. It gives the readers of single values;
// what a file may say is its reader's to tell.
//
// It must never know a file, a setting or what a document is about, and unless it is
// told that values are none, it takes each for a secret and repeats it nowhere.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Document is the one document of a text; nil: there is none. A second one is [Faults].
func Document(data []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading YAML: %w", err)
	}
	var first, second yaml.Node
	if err := loader.Load(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, unread(err)
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, unread(err)
	default:
		return nil, Faults{{Line: second.Line, Text: "a second document begins here, and only one is read"}}
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		return nil, nil
	}
	return first.Content[0], nil
}

// unread says why a text is no YAML. The parser repeats the name of an anchor that is
// not there, for which it takes any text behind an asterisk: a secret that should have
// been in quotes.
func unread(err error) error {
	if at, ok := errors.AsType[*yaml.LoadError](err); ok && strings.HasPrefix(at.Message, "unknown anchor") {
		return Faults{{Line: at.Mark.Line, Text: "an alias of nothing that is there; text that begins with * belongs in quotes"}}
	}
	return fmt.Errorf("reading YAML: %w", err)
}

// Itself is what an alias stands for.
func Itself(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// Fields are the keys that a mapping may have, each with what reads its value.
type Fields map[string]func(*yaml.Node)

// Reader takes a document apart by its nodes, which know their lines, and collects what
// is wrong with it. The zero value repeats no value and gives no hints.
type Reader struct {
	// Plain is of a document that holds nothing secret: faults may repeat its values.
	Plain bool
	// Hints are what to say of keys that people look for in vain.
	Hints map[string]string

	Faults Faults
}

// most bounds the faults that are told of: a few bytes of aliases can stand for
// millions.
const most = 100

func (r *Reader) full() bool { return len(r.Faults) > most }

// Fault adds one, unless there are too many. in is the part of the document,
// `route "query"`; empty: the whole.
func (r *Reader) Fault(line int, in, format string, args ...any) {
	switch {
	case r.full():
		return
	case len(r.Faults) == most:
		in, format, args = "", "there are more faults than the %d that are told", []any{most}
	}
	r.Faults = append(r.Faults, Fault{Line: line, In: in, Text: fmt.Sprintf(format, args...)})
}

// Shown is a node in a fault.
func (r *Reader) Shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	case !r.Plain:
		return "this"
	}
	return n.Value
}

// word is a key that nobody knows, in a fault. Where values are not repeated, neither is
// what looks like no key: somebody may have forgotten which one it belongs to.
func (r *Reader) word(key string) string {
	strange := func(c rune) bool { return c != '_' && c != '<' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }
	if !r.Plain && (len(key) > 24 || strings.ContainsFunc(key, strange)) {
		return ""
	}
	return fmt.Sprintf(" %q", Brief(key))
}

// Object reads the keys of a mapping and returns their lines. Every key may be there
// once, in the letter case of fields.
func (r *Reader) Object(n *yaml.Node, in string, fields Fields) Lines {
	n = Itself(n)
	at := Lines{Self: n.Line, Keys: map[string]int{}}
	if n.Kind != yaml.MappingNode {
		r.Fault(n.Line, in, "want a mapping, not %s", r.Shown(n))
		return at
	}
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key, value := n.Content[i], Itself(n.Content[i+1])
		read, known := fields[key.Value]
		switch first, twice := at.Keys[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			r.Fault(key.Line, in, "a key is a word, not %s", r.Shown(key))
		case !known:
			r.Fault(key.Line, in, "unknown key%s, want one of %s%s", r.word(key.Value), strings.Join(slices.Sorted(maps.Keys(fields)), ", "), r.hint(key.Value))
		case twice:
			r.Fault(key.Line, in, "key %s is given twice, first in line %d", key.Value, first)
		default:
			at.Keys[key.Value] = key.Line
			read(value)
		}
	}
	return at
}

func (r *Reader) hint(key string) string {
	if hint, known := r.Hints[key]; known {
		return "; " + hint
	}
	return ""
}

// Brief is the beginning of a text that a fault repeats.
func Brief(text string) string {
	const most = 40
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

// List has each item of a list read.
func (r *Reader) List(n *yaml.Node, in, key string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.Fault(n.Line, in, "%s: want a list, not %s", key, r.Shown(n))
		return
	}
	for _, item := range n.Content {
		if r.full() {
			return
		}
		each(Itself(item))
	}
}

// Scalar is the text of a value with one of these tags; want says in a fault what it
// should be.
func (r *Reader) Scalar(n *yaml.Node, in, key, want string, tags ...string) (string, bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.ShortTag()) {
		r.Fault(n.Line, in, "%s: want %s, not %s", key, want, r.Shown(n))
		return "", false
	}
	return n.Value, true
}

// String is the text of a value that YAML reads as text.
func (r *Reader) String(n *yaml.Node, in, key string) (string, bool) {
	return r.Scalar(n, in, key, "text, in quotes where YAML reads it as something else", "!!str")
}

// Boolean reads true or false. A value of another kind is a fault and leaves the field
// as it is.
func (r *Reader) Boolean(in, key string, to *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if text, ok := r.Scalar(n, in, key, "true or false", "!!bool"); ok {
			*to = strings.EqualFold(text, "true")
		}
	}
}
