package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// value is one row of the table.
type value struct {
	Path    string
	Default string // Markdown
	Text    string // Markdown
}

// marker begins the comment of a value that gets a row; what lies below such a
// value is part of it.
const marker = "-- "

// longest default that is shown in a row.
const longest = 60

// values gives the rows in the order of the file. A value without a comment of
// its own, or of something above it, is an error: nobody could know it.
func values(text []byte) ([]value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("no mapping at the top")
	}
	return below(document.Content[0], "")
}

func below(mapping *yaml.Node, path string) ([]value, error) {
	var list []value
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, content := mapping.Content[i], mapping.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		text, documented := described(key.HeadComment)
		switch {
		case documented:
			shown, err := shown(content)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			list = append(list, value{Path: at, Default: shown, Text: text})
		case content.Kind == yaml.MappingNode && len(content.Content) > 0:
			inner, err := below(content, at)
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
		default:
			return nil, fmt.Errorf("line %d: %s has no comment that begins with %q", key.Line, at, marker)
		}
	}
	return list, nil
}

// described joins the lines of the last block of a comment, if that is one for
// the table.
func described(comment string) (string, bool) {
	blocks := strings.Split(comment, "\n\n")
	var words []string
	for line := range strings.Lines(blocks[len(blocks)-1]) {
		words = append(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	text, ok := strings.CutPrefix(strings.Join(words, " "), marker)
	return strings.ReplaceAll(text, "|", `\|`), ok
}

// shown is a default as the table has it.
func shown(content *yaml.Node) (string, error) {
	var v any
	if err := content.Decode(&v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case nil:
		return "", errors.New("null is no default: helm drops the value")
	case string:
		if v == "" {
			return "–", nil
		}
	case map[string]any:
		if len(v) == 0 {
			return "–", nil
		}
	case []any:
		if len(v) == 0 {
			return "–", nil
		}
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", err
	}
	code := strings.TrimSpace(text.String())
	if s, ok := v.(string); ok {
		code = s
	}
	if len(code) > longest {
		return "see `values.yaml`", nil
	}
	return "`" + code + "`", nil
}
