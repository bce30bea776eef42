package api

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/envoy/routes"
)

const descriptionFile = "../../login/openapi.json"

func readDescription(t *testing.T) (text []byte, methods map[string][]string) {
	t.Helper()
	text, err := os.ReadFile(descriptionFile)
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`\{[a-z_]+\}`)
	methods = map[string][]string{}
	for path, operations := range described.Paths {
		path = id.ReplaceAllString(path, "{uuid}")
		for method := range operations {
			methods[path] = append(methods[path], strings.ToUpper(method))
		}
		slices.Sort(methods[path])
	}
	return text, methods
}

// What is described is what can be reached through the gate, and the other way round.
func TestTheGateLeadsToWhatIsDescribed(t *testing.T) {
	_, described := readDescription(t)
	for _, name := range routes.Shipped() {
		table, err := routes.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		led := map[string][]string{}
		for _, r := range table.Routes {
			if r.Upstream == "login" && r.Answer == nil {
				led[r.Match.String()] = slices.Sorted(slices.Values(r.Methods))
			}
		}
		if diff := cmp.Diff(described, led); diff != "" {
			t.Errorf("%s (-described +led to):\n%s", name, diff)
		}
	}
}

// gateTexts are said by Envoy of what is no request to a route; docs/errors.md has
// those that a route answers.
var gateTexts = []string{"Bad Request", "Request timed out.", "Request Header Fields Too Large"}

// The texts of the page are held to the code by the tests of the pages.
func TestEveryTextOfARefusalIsOnThePageOfErrors(t *testing.T) {
	text, _ := readDescription(t)
	page, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	details := texts(document)
	for _, detail := range details {
		if !slices.Contains(gateTexts, detail) && !strings.Contains(string(page), "`"+detail+"`") {
			t.Errorf("%q is not in docs/errors.md", detail)
		}
	}
	if len(details) < 30 {
		t.Errorf("only %d texts were found", len(details))
	}
}

// texts are the values that a member "detail" may have, wherever it is described.
func texts(at any) (found []string) {
	switch at := at.(type) {
	case []any:
		for _, one := range at {
			found = append(found, texts(one)...)
		}
	case map[string]any:
		for name, one := range at {
			if name == "detail" {
				found = append(found, literals(one)...)
			}
			found = append(found, texts(one)...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// literals are those of a schema.
func literals(at any) (found []string) {
	switch at := at.(type) {
	case []any:
		for _, one := range at {
			found = append(found, literals(one)...)
		}
	case map[string]any:
		for name, one := range at {
			switch text, isText := one.(string); {
			case name == "const" && isText:
				found = append(found, text)
			case name == "enum":
				for _, word := range one.([]any) {
					found = append(found, word.(string))
				}
			case name == "anyOf":
				found = append(found, literals(one)...)
			}
		}
	}
	return found
}
