package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

const chart = "../gatehouse"

func TestTheREADMEOfTheChartIsFresh(t *testing.T) {
	if err := rewrite(chart, true); err != nil {
		t.Error(err)
	}
}

func TestValuesBecomeRows(t *testing.T) {
	tests := []struct {
		name    string
		text    string
		want    []value
		wantErr string
	}{
		{
			name: "a comment of several lines is one text",
			text: "# -- One\n# two.\na: 1\n",
			want: []value{{"a", "`1`", "One two."}},
		},
		{
			name: "what has no comment of its own is looked into",
			text: "a:\n  # -- B.\n  b: x\n  # -- C.\n  c: []\n",
			want: []value{{"a.b", "`x`", "B."}, {"a.c", "–", "C."}},
		},
		{
			name: "below a comment nothing needs one",
			text: "# -- A.\na: { b: \"\" }\n",
			want: []value{{"a", "`{\"b\":\"\"}`", "A."}},
		},
		{
			name: "a bar does not end the column",
			text: "# -- One | two.\na: \"\"\n",
			want: []value{{"a", "–", `One \| two.`}},
		},
		{name: "a value that nobody explains is refused", text: "# -- A.\na: 1\nb: 2\n", wantErr: "line 3: b has no comment"},
		{name: "an empty mapping too", text: "a:\n  b: {}\n", wantErr: "a.b has no comment"},
		{name: "null is no default", text: "# -- A.\na:\n", wantErr: "a: null"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := values([]byte(tt.text))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error = %v, want %q in it", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
		})
	}
}

// helm refuses what the schema does not know, so the two must know the same.
func TestTheSchemaAndTheDefaultsKnowTheSameValues(t *testing.T) {
	var defaults map[string]any
	read(t, "values.yaml", func(text []byte) error { return yaml.Unmarshal(text, &defaults) })
	var root map[string]any
	read(t, "values.schema.json", func(text []byte) error { return json.Unmarshal(text, &root) })

	definitions := root["definitions"].(map[string]any)
	var walk func(at string, schema map[string]any, v any)
	walk = func(at string, schema map[string]any, v any) {
		if ref, ok := schema["$ref"].(string); ok {
			schema = definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
		}
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s takes what it does not know", at)
		}
		have, _ := v.(map[string]any)
		for name, below := range properties {
			inner, ok := have[name]
			if !ok && at+"."+name != "values.global" { // helm's own
				t.Errorf("%s.%s is in the schema and not in values.yaml", at, name)
			}
			walk(at+"."+name, below.(map[string]any), inner)
		}
		for name := range have {
			if properties[name] == nil {
				t.Errorf("%s.%s is in values.yaml and not in the schema", at, name)
			}
		}
	}
	walk("values", root, defaults)
}

func read(t *testing.T, name string, into func([]byte) error) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, name))
	if err == nil {
		err = into(text)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
