package strictyaml_test

import (
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

// dish is read as the packages do that have files: name, hot, and parts of it with names.
type dish struct {
	name  string
	hot   bool
	parts []string
}

const secret = "test-secret-in-the-wrong-place"

func read(text string, plain bool) (dish, error) {
	root, err := strictyaml.Document([]byte(text))
	if err != nil || root == nil {
		return dish{}, err
	}
	var d dish
	r := &strictyaml.Reader{Plain: plain, Hints: map[string]string{"spicy": "there is no such thing"}}
	r.Object(root, "", strictyaml.Fields{
		"name": func(n *yaml.Node) {
			if text, ok := r.String(n, "", "name"); ok {
				d.name = text
			}
		},
		"hot": r.Boolean("", "hot", &d.hot),
		"parts": func(n *yaml.Node) {
			r.List(n, "", "parts", func(item *yaml.Node) {
				at := r.Object(item, `part`, strictyaml.Fields{"name": func(n *yaml.Node) {
					if text, ok := r.String(n, "part", "name"); ok {
						d.parts = append(d.parts, text)
					}
				}})
				if !at.Has("name") {
					r.Fault(at.Of("name"), "part", "name is missing")
				}
			})
		},
	})
	return d, r.Faults.Of("dish.yaml").Err()
}

func TestADocumentIsReadStrictlyAndItsFaultsHaveALine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"a good one has none", "name: soup\nhot: true\nparts: [{name: leek}]\n", ""},
		{"nothing has none either", "", ""},
		{"an unknown key is named, and those that there are", "name: soup\ncold: yes\n", `dish.yaml:2: unknown key "cold", want one of hot, name, parts`},
		{"a key in another letter case is unknown", "Name: soup\n", `dish.yaml:1: unknown key "Name", want one of hot, name, parts`},
		{"a key that people look for is answered", "spicy: 3\n", `dish.yaml:1: unknown key "spicy", want one of hot, name, parts; there is no such thing`},
		{"what is too long for a key is not repeated", strings.Repeat("k", 100) + ": 1\n", `dish.yaml:1: unknown key, want one of hot, name, parts`},
		{"a key given twice is told with its first line", "name: soup\nhot: true\nname: stew\n", "dish.yaml:3: key name is given twice, first in line 1"},
		{"a key that is no word", "[name]: soup\n", "dish.yaml:1: a key is a word, not a list"},
		{"a merge key is a key like others", "parts:\n  - &a {name: leek}\n  - {<<: *a, name: onion}\n", `dish.yaml:3: part: unknown key "<<", want one of name`},
		{"a number is no text", "name: 12\n", "dish.yaml:1: name: want text, in quotes where YAML reads it as something else, not this"},
		{"a word is no truth", "hot: \"true\"\n", "dish.yaml:1: hot: want true or false, not this"},
		{"nothing is no truth", "hot:\n", "dish.yaml:1: hot: want true or false, not nothing"},
		{"a mapping is no list", "parts: {name: leek}\n", "dish.yaml:1: parts: want a list, not a mapping"},
		{"a list is no mapping", "- name\n", "dish.yaml:1: want a mapping, not a list"},
		{"what is missing is told at its part", "name: soup\nparts:\n  - name: leek\n  - {}\n", "dish.yaml:4: part: name is missing"},
		{"a second document", "name: soup\n---\nname: stew\n", "line 2: a second document begins here, and only one is read"},
		{"an alias of nothing is not repeated", "hot: true\nname: *" + secret + "\n", "line 2: an alias of nothing that is there; text that begins with * belongs in quotes"},
		{"all at once, by their lines", "hot: 1\nname: 2\n", "dish.yaml:1: hot: want true or false, not this\ndish.yaml:2: name: want text, in quotes where YAML reads it as something else, not this"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.text, false)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestAnAliasIsWhatItStandsFor(t *testing.T) {
	t.Parallel()
	got, err := read("name: &n leek\nhot: true\nparts: [{name: *n}, &p {name: onion}, *p]\n", false)
	if err != nil || got.name != "leek" || !got.hot || strings.Join(got.parts, " ") != "leek onion onion" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestValuesAreRepeatedOnlyOfAPlainDocument(t *testing.T) {
	t.Parallel()
	const text = "hot: " + secret + "\n"
	if _, err := read(text, false); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a secret is repeated, or nothing is wrong with it: %v", err)
	}
	if _, err := read(text, true); err == nil || !strings.Contains(err.Error(), secret) {
		t.Errorf("%v, want the value in it", err)
	}
}

// A few bytes of aliases stand for millions of faults.
func TestFaultsThatAreTooManyAreNotAllTold(t *testing.T) {
	t.Parallel()
	text := "parts:\n  - &p {" + strings.Repeat("cold: 1, ", 5000) + "}\n" + strings.Repeat("  - *p\n", 5000)
	_, err := read(text, false)
	faults, judged := errors.AsType[strictyaml.Faults](err)
	if !judged || len(faults) == 0 || len(faults) > 101 {
		t.Fatalf("%d faults, want about a hundred: %.200v", len(faults), err)
	}
	if last := faults[len(faults)-1].Text; last != "there are more faults than the 100 that are told" {
		t.Errorf("the last of them is %q", last)
	}
}

func TestWhatIsNoYAMLIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\t{", "name: soup\n---\n\t{"} {
		if _, err := strictyaml.Document([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "reading YAML: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever is accepted is one document with each of its keys there once, and whatever is
// refused has a fault in a line that is there.
func FuzzADocumentIsReadOrRefused(f *testing.F) {
	for _, seed := range []string{
		"name: soup\nhot: true\nparts: [{name: leek}]\n", "name: a\nname: b\n", "a: &a [*a]\n", "parts: &p [*p]\n",
		"---\n---\n", "name: a\n---\nname: b\n", "? [name]\n: x\n", "hot: " + secret, "parts: [{name: [" + secret + "]}]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := read(text, false)
		faults, judged := errors.AsType[strictyaml.Faults](err)
		if judged && len(faults) == 0 {
			t.Error("refused without a fault")
		}
		// YAML knows more ends of a line than one.
		most := 2 // nothing behind "---" is in the line after it
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			most += strings.Count(text, end)
		}
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > most {
				t.Errorf("line %d of %d: %v", fault.Line, most, fault)
			}
		}
		root, again := strictyaml.Document([]byte(text))
		if err != nil || again != nil || root == nil {
			return
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(strictyaml.Itself(root).Content); i += 2 {
			key := root.Content[i].Value
			if seen[key] || key != "name" && key != "hot" && key != "parts" {
				t.Errorf("the key %q is accepted", key)
			}
			seen[key] = true
		}
	})
}
