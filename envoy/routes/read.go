package routes

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

// The tables that ship, one file each: prefix (whole services behind one prefix
// each) and explicit (every path named).
//
//go:embed *.yaml
var shipped embed.FS

//go:embed schema.json
var schema []byte

// Schema is a JSON Schema of route tables, for editors. It is not the judge: it
// cannot see what two routes have to do with each other.
func Schema() []byte { return slices.Clone(schema) }

// Shipped are the names that Load knows without a file.
func Shipped() []string { return []string{"prefix", "explicit"} }

// Load reads a table that ships, by name, or an operator's own, by path.
// The table is validated; what is wrong with it comes as Faults, each with its
// line.
func Load(nameOrFile string) (Table, error) {
	for _, name := range Shipped() {
		if nameOrFile == name {
			data, err := shipped.ReadFile(name + ".yaml")
			if err != nil {
				return Table{}, fmt.Errorf("reading route table %q: %w", name, err)
			}
			return ParseOf(name, data)
		}
	}
	info, err := os.Stat(nameOrFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Table{}, fmt.Errorf("route table %q: want prefix, explicit or an existing file", nameOrFile)
	case err != nil:
		return Table{}, fmt.Errorf("reading route table: %w", err)
	case !info.Mode().IsRegular(): // a pipe would be waited for without end
		return Table{}, fmt.Errorf("route table %q: not a regular file", nameOrFile)
	case info.Size() > largestTable:
		return Table{}, fmt.Errorf("route table %q: more than %d bytes", nameOrFile, largestTable)
	}
	data, err := os.ReadFile(nameOrFile)
	if err != nil {
		return Table{}, fmt.Errorf("reading route table: %w", err)
	}
	return ParseOf(nameOrFile, data)
}

// largestTable holds tens of thousands of routes.
const largestTable = 4 << 20

// IsTable reports whether a text says routes at its top level, as a table does
// and a configuration of Envoy does not.
func IsTable(data []byte) bool {
	root, err := strictyaml.Document(data)
	if err != nil || root == nil || root.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key := root.Content[i].Value; key == "routes" || key == "upstreams" {
			return true
		}
	}
	return false
}

// ParseOf is Parse for a text of a file with this name.
func ParseOf(name string, data []byte) (Table, error) {
	t, err := Parse(data)
	if faults, ok := errors.AsType[Faults](err); ok {
		return Table{}, faults.Of(name)
	}
	return t, err
}

// Parse reads a table from YAML and validates it. Unknown keys, keys given
// twice and keys in another letter case are errors, and so is a route without a
// mode: what an operator did not write down is not guessed. What is wrong with
// the table comes all at once, as Faults with their lines.
func Parse(data []byte) (Table, error) {
	root, err := strictyaml.Document(data)
	if err != nil {
		if faults, ok := errors.AsType[Faults](err); ok {
			return Table{}, faults
		}
		return Table{}, Faults{{Text: err.Error()}}
	}
	if root == nil {
		return Table{}, Faults{{Text: "no routes"}}
	}
	y := newReader()
	t := y.table(root)
	return t, slices.Concat(y.Faults, t.faults()).Err()
}

func (y *yamlReader) table(n *yaml.Node) Table {
	t := Table{Upstreams: map[string]Upstream{}}
	t.at = y.Object(n, "", strictyaml.Fields{
		"upstreams": func(n *yaml.Node) {
			// Their names are the operator's, so every key is one.
			if n.Kind != yaml.MappingNode {
				y.Fault(n.Line, "", "upstreams: want a mapping of names, not %s", y.Shown(n))
				return
			}
			for i := 0; i+1 < len(n.Content); i += 2 {
				name := n.Content[i]
				if first, twice := t.Upstreams[name.Value]; twice {
					y.Fault(name.Line, fmt.Sprintf("upstream %q", name.Value), "the name is used twice, first in line %d", first.at.Self)
					continue
				}
				t.Upstreams[name.Value] = y.upstream(name, strictyaml.Itself(n.Content[i+1]))
			}
		},
		"routes": func(n *yaml.Node) {
			y.List(n, "", "routes", func(item *yaml.Node) {
				t.Routes = append(t.Routes, y.route(item, len(t.Routes)+1))
			})
		},
	})
	return t
}

func (y *yamlReader) upstream(name, n *yaml.Node) Upstream {
	var u Upstream
	in := fmt.Sprintf("upstream %q", name.Value)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" { // "ingest:" and nothing behind it
		u.at = strictyaml.Lines{Self: name.Line}
		return u
	}
	u.at = y.Object(n, in, strictyaml.Fields{
		"url":           y.text(in, "url", &u.URL),
		"authorization": y.Boolean(in, "authorization", &u.Authorization),
		"headers": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"forward": y.texts(in, "headers.forward", &u.Headers.Forward),
				"drop":    y.texts(in, "headers.drop", &u.Headers.Drop),
			})
		},
		"http2":    y.Boolean(in, "http2", &u.HTTP2),
		"grpc_web": y.Boolean(in, "grpc_web", &u.GRPCWeb),
		"tls": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"ca":          y.text(in, "tls.ca", &u.TLS.CA),
				"server_name": y.text(in, "tls.server_name", &u.TLS.ServerName),
			})
		},
		"timeouts": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"idle":    y.duration(in, "timeouts.idle", &u.Timeouts.Idle),
				"total":   y.duration(in, "timeouts.total", &u.Timeouts.Total),
				"connect": y.duration(in, "timeouts.connect", &u.ConnectTimeout),
			})
		},
		"connections": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"max":     y.number(in, "connections.max", &u.Connections.Max),
				"waiting": y.number(in, "connections.waiting", &u.Connections.Waiting),
			})
		},
		"retries": y.number(in, "retries", &u.Retries),
		"unset":   y.answer(in, "unset", &u.Unset),
	})
	u.at.Self = name.Line
	return u
}

func (y *yamlReader) route(n *yaml.Node, count int) Route {
	var r Route
	in := fmt.Sprintf("route #%d", count)
	// The name first, so that faults can say it.
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if value := strictyaml.Itself(n.Content[i+1]); n.Content[i].Value == "name" && value.Kind == yaml.ScalarNode && value.Value != "" {
				in = fmt.Sprintf("route %q", value.Value)
			}
		}
	}
	moded := false
	r.at = y.Object(n, in, strictyaml.Fields{
		"name":     y.text(in, "name", &r.Name),
		"path":     y.text(in, "path", &r.Match.Path),
		"template": y.text(in, "template", &r.Match.Template),
		"prefix":   y.text(in, "prefix", &r.Match.Prefix),
		"methods":  y.texts(in, "methods", &r.Methods),
		"mode": func(n *yaml.Node) {
			moded = true
			text, ok := y.Scalar(n, in, "mode", "strict, initial or none", "!!str")
			if !ok {
				return
			}
			if err := r.Mode.UnmarshalText([]byte(text)); err != nil {
				y.Fault(n.Line, in, "%v", err)
			}
		},
		"roles":    y.texts(in, "roles", &r.Roles),
		"upstream": y.text(in, "upstream", &r.Upstream),
		"headers": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"forward": y.texts(in, "headers.forward", &r.Headers.Forward),
				"drop":    y.texts(in, "headers.drop", &r.Headers.Drop),
			})
		},
		"timeouts": func(n *yaml.Node) {
			y.Object(n, in, strictyaml.Fields{
				"idle":  y.duration(in, "timeouts.idle", &r.Timeouts.Idle),
				"total": y.duration(in, "timeouts.total", &r.Timeouts.Total),
			})
		},
		"rate_limit": y.rateLimit(in, &r),
		"max_body":   y.size(in, "max_body", &r.MaxBody),
		"websocket":  y.Boolean(in, "websocket", &r.WebSocket),
		"opens":      y.texts(in, "opens", &r.Opens),
		"answer":     y.answer(in, "answer", &r.Answer),
	})
	answers := r.at.Has("answer")
	switch {
	case n.Kind != yaml.MappingNode:
	case !moded && !answers:
		y.Fault(n.Line, in, "mode is missing: want strict, initial or none")
	case moded && answers:
		y.Fault(r.at.Of("mode"), in, "a route with an answer has no mode")
	}
	return r
}

func (y *yamlReader) answer(in, key string, to **Answer) func(*yaml.Node) {
	return func(n *yaml.Node) {
		a := &Answer{}
		y.Object(n, in, strictyaml.Fields{
			"status": y.number(in, key+".status", &a.Status),
			"detail": y.text(in, key+".detail", &a.Detail),
		})
		*to = a
	}
}

// rateLimit is true for the limit of the settings, or a rate of the route's own.
func (y *yamlReader) rateLimit(in string, r *Route) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
			y.Boolean(in, "rate_limit", &r.RateLimit)(n)
			return
		}
		rate, ok := parseRate(n.Value)
		if n.Kind != yaml.ScalarNode || !ok {
			y.Fault(n.Line, in, "rate_limit: want true, or a rate such as 10/s burst 30 (s, m or h; a burst not below the rate), not %s", y.Shown(n))
			return
		}
		r.Rate = rate
	}
}
