package envoy

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"sigs.k8s.io/yaml"
)

// The tables that ship, one file each: prefix (whole services behind one prefix
// each) and explicit (every path named).
//
//go:embed routes/*.yaml
var shipped embed.FS

// ShippedTables are the names that LoadTable knows without a file.
func ShippedTables() []string { return []string{"prefix", "explicit"} }

// LoadTable reads a table that ships, by name, or an operator's own, by path.
// The table is validated.
func LoadTable(nameOrFile string) (Table, error) {
	for _, name := range ShippedTables() {
		if nameOrFile == name {
			data, err := shipped.ReadFile("routes/" + name + ".yaml")
			if err != nil {
				return Table{}, fmt.Errorf("reading route table %q: %w", name, err)
			}
			return namedTable(name, data)
		}
	}
	data, err := os.ReadFile(nameOrFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Table{}, fmt.Errorf("route table %q: want prefix, explicit or an existing file", nameOrFile)
	}
	if err != nil {
		return Table{}, fmt.Errorf("reading route table: %w", err)
	}
	return namedTable(nameOrFile, data)
}

func namedTable(name string, data []byte) (Table, error) {
	t, err := ParseTable(data)
	if err != nil {
		return Table{}, fmt.Errorf("route table %q: %w", name, err)
	}
	return t, nil
}

// ParseTable reads a table from YAML and validates it. Unknown keys, keys given
// twice and keys in another letter case are errors, and so is a route without a
// mode: what an operator did not write down is not guessed.
func ParseTable(data []byte) (Table, error) {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return Table{}, fmt.Errorf("reading YAML: %w", err)
	}
	// json/v2, because the older decoder takes "Mode" for "mode": two spellings
	// of one key, of which a reader of the file sees only the first.
	var file tableFile
	if err := json.Unmarshal(text, &file, json.RejectUnknownMembers(true)); err != nil {
		return Table{}, fmt.Errorf("reading fields: %w", err)
	}
	t, err := file.table()
	return t, errors.Join(err, t.Validate())
}

// The file form of a table. It differs from Table where the file must be told
// apart from a zero value.
type (
	tableFile struct {
		Upstreams map[string]upstreamFile `json:"upstreams"`
		Routes    []routeFile             `json:"routes"`
	}
	upstreamFile struct {
		URL           string       `json:"url"`
		Authorization bool         `json:"authorization"`
		Timeouts      timeoutsFile `json:"timeouts"`
		Unset         *answerFile  `json:"unset"`
	}
	timeoutsFile struct {
		Idle  duration `json:"idle"`
		Total duration `json:"total"`
	}
	answerFile struct {
		Status uint32 `json:"status"`
		Detail string `json:"detail"`
	}
	routeFile struct {
		Name      string       `json:"name"`
		Path      string       `json:"path"`
		Template  string       `json:"template"`
		Prefix    string       `json:"prefix"`
		Methods   []string     `json:"methods"`
		Mode      *Mode        `json:"mode"`
		Roles     []string     `json:"roles"`
		Upstream  string       `json:"upstream"`
		Timeouts  timeoutsFile `json:"timeouts"`
		RateLimit bool         `json:"rate_limit"`
		WebSocket bool         `json:"websocket"`
		Answer    *answerFile  `json:"answer"`
	}
)

// duration is written as Go writes it: 15s, 1m30s.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed <= 0 {
		return fmt.Errorf("duration %q: want a positive one such as 15s", text)
	}
	*d = duration(parsed)
	return nil
}

func (f tableFile) table() (Table, error) {
	t := Table{Upstreams: map[string]Upstream{}}
	for name, u := range f.Upstreams {
		t.Upstreams[name] = Upstream{
			URL: u.URL, Authorization: u.Authorization, Timeouts: u.Timeouts.timeouts(), Unset: u.Unset.answer(),
		}
	}
	var faults []error
	for _, r := range f.Routes {
		route := Route{
			Name:    r.Name,
			Match:   Match{Path: r.Path, Template: r.Template, Prefix: r.Prefix},
			Methods: r.Methods, Roles: r.Roles, Upstream: r.Upstream, Timeouts: r.Timeouts.timeouts(),
			RateLimit: r.RateLimit, WebSocket: r.WebSocket, Answer: r.Answer.answer(),
		}
		switch {
		case r.Mode == nil && r.Answer == nil:
			faults = append(faults, fmt.Errorf("route %q: mode is missing", r.Name))
		case r.Mode != nil && r.Answer != nil:
			faults = append(faults, fmt.Errorf("route %q: a route with an answer has no mode", r.Name))
		case r.Mode != nil:
			route.Mode = *r.Mode
		}
		t.Routes = append(t.Routes, route)
	}
	return t, errors.Join(faults...)
}

func (f timeoutsFile) timeouts() Timeouts {
	return Timeouts{Idle: time.Duration(f.Idle), Total: time.Duration(f.Total)}
}

func (f *answerFile) answer() *Answer {
	if f == nil {
		return nil
	}
	return &Answer{Status: f.Status, Detail: f.Detail}
}
