package routes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// yamlReader takes a document apart by hand, because only its nodes know their
// lines, and because what an operator did not write down is not guessed: no key
// in another letter case, no word for a number, no second document.
type yamlReader struct {
	faults Faults
}

func (y *yamlReader) fault(n *yaml.Node, in, format string, args ...any) {
	y.faults = append(y.faults, Fault{Line: n.Line, In: in, Text: fmt.Sprintf(format, args...)})
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

// shown is a node in a fault.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	return n.Value
}

// object reads the keys of a mapping and returns their lines. Every key may be
// there once.
func (y *yamlReader) object(n *yaml.Node, in string, fields map[string]func(*yaml.Node)) lines {
	n = itself(n)
	at := lines{self: n.Line, keys: map[string]int{}}
	if n.Kind != yaml.MappingNode {
		y.fault(n, in, "want a mapping, not %s", shown(n))
		return at
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], itself(n.Content[i+1])
		read, known := fields[key.Value]
		switch first, twice := at.keys[key.Value]; {
		case key.Kind != yaml.ScalarNode || !known:
			y.fault(key, in, "unknown key %q, want one of %s%s", key.Value, strings.Join(slices.Sorted(maps.Keys(fields)), ", "), hint(key.Value))
		case twice:
			y.fault(key, in, "key %s is given twice, first in line %d", key.Value, first)
		default:
			at.keys[key.Value] = key.Line
			read(value)
		}
	}
	return at
}

// hint answers keys that people look for in vain.
func hint(key string) string {
	switch key {
	case "insecure", "insecure_skip_verify", "verify":
		return "; certificates are always verified"
	case "<<":
		return "; merge keys hide what a route says"
	}
	return ""
}

func (y *yamlReader) list(n *yaml.Node, in, key string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		y.fault(n, in, "%s: want a list, not %s", key, shown(n))
		return
	}
	for _, item := range n.Content {
		each(itself(item))
	}
}

// scalar is the text of a value with this tag.
func (y *yamlReader) scalar(n *yaml.Node, in, key, tag, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != tag {
		y.fault(n, in, "%s: want %s, not %s", key, want, shown(n))
		return "", false
	}
	return n.Value, true
}

// The readers of fields. A value of the wrong kind is a fault and leaves the
// field as it is.

func (y *yamlReader) text(in, key string, to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if text, ok := y.scalar(n, in, key, "!!str", "text, in quotes where YAML reads it as something else"); ok {
			*to = text
		}
	}
}

func (y *yamlReader) texts(in, key string, to *[]string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		y.list(n, in, key, func(item *yaml.Node) {
			if text, ok := y.scalar(item, in, key, "!!str", "text, in quotes where YAML reads it as something else"); ok {
				*to = append(*to, text)
			}
		})
	}
}

func (y *yamlReader) boolean(in, key string, to *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if text, ok := y.scalar(n, in, key, "!!bool", "true or false"); ok {
			*to = strings.EqualFold(text, "true")
		}
	}
}

func (y *yamlReader) number(in, key string, to *uint32) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, "!!int", "a whole number")
		if !ok {
			return
		}
		value, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			y.fault(n, in, "%s: %s is not a whole number from 0 to 4294967295", key, text)
			return
		}
		*to = uint32(value)
	}
}

// duration is written as Go writes it: 15s, 1m30s.
func (y *yamlReader) duration(in, key string, to *time.Duration) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.scalar(n, in, key, "!!str", "a duration such as 15s")
		if !ok {
			return
		}
		// Envoy counts milliseconds; a day is longer than anyone waits.
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Millisecond || d > 24*time.Hour {
			y.fault(n, in, "%s: duration %q: want 1ms to 24h, such as 15s", key, text)
			return
		}
		*to = d
	}
}

// size is a number of bytes, or of KiB, MiB or GiB.
func (y *yamlReader) size(in, key string, to *uint32) func(*yaml.Node) {
	return func(n *yaml.Node) {
		bytes, ok := parseSize(n.Value)
		if n.Kind != yaml.ScalarNode || !ok {
			y.fault(n, in, "%s: want a number of bytes from 1 to 1GiB, such as 65536, 64KiB or 10MiB, not %s", key, shown(n))
			return
		}
		*to = bytes
	}
}

func parseSize(text string) (uint32, bool) {
	unit := uint64(1)
	for suffix, size := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, size
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || n > maxBodyLimit/unit {
		return 0, false
	}
	return uint32(n * unit), true
}
