package envoy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/envoy/routes"
)

// Change is one difference between two configurations, in an operator's words.
type Change struct {
	// Loud changes decide who gets where; they come first.
	Loud bool `json:"loud"`
	// About is what has changed: `route "query"`, `upstream "login"`, or the gate.
	About string `json:"about"`
	What  string `json:"what"`
}

// Diff says what an operator has to know before one configuration takes the
// other's place.
func Diff(before, after *bootstrapv3.Bootstrap) ([]Change, error) {
	d := &differ{}
	old, err := viewOf(before)
	if err != nil {
		return nil, err
	}
	now, err := viewOf(after)
	if err != nil {
		return nil, err
	}
	d.routes(old, now)
	d.upstreams(old, now)
	d.leaves("the gate", old.rest, now.rest)
	slices.SortStableFunc(d.changes, func(a, b Change) int {
		loud := map[bool]int{true: 0, false: 1}
		return cmp.Compare(loud[a.Loud], loud[b.Loud])
	})
	return d.changes, nil
}

// DiffYAML is Diff of two texts that ParseYAML reads.
func DiffYAML(before, after []byte) ([]Change, error) {
	old, err := ParseYAML(before)
	if err != nil {
		return nil, err
	}
	now, err := ParseYAML(after)
	if err != nil {
		return nil, err
	}
	return Diff(old, now)
}

type differ struct{ changes []Change }

func (d *differ) add(loud bool, about, format string, args ...any) {
	d.changes = append(d.changes, Change{Loud: loud, About: about, What: fmt.Sprintf(format, args...)})
}

func (d *differ) routes(old, now view) {
	for _, name := range old.order {
		if _, stays := now.routes[name]; !stays {
			d.add(true, quoteRoute(name), "removed: %s", old.routes[name])
		}
	}
	for _, name := range now.order {
		r := now.routes[name]
		was, known := old.routes[name]
		if !known {
			d.add(true, quoteRoute(name), "added: %s", r)
			continue
		}
		d.route(name, was, r)
	}
	if a, b := common(old.order, now.routes), common(now.order, old.routes); !slices.Equal(a, b) {
		d.add(true, "the gate", "the order of routes has changed, and the first that matches counts")
	}
}

func (d *differ) route(name string, was, r routeView) {
	about := quoteRoute(name)
	if was.mode != r.mode {
		d.add(true, about, "mode %s -> %s: %s", was.mode, r.mode, consequence(was.mode, r.mode))
	}
	if !slices.Equal(was.roles, r.roles) {
		d.add(true, about, "roles %s -> %s", list(was.roles), list(r.roles))
	}
	if was.path != r.path {
		d.add(true, about, "path %s -> %s", was.path, r.path)
	}
	if !slices.Equal(was.methods, r.methods) {
		d.add(true, about, "methods %s -> %s", list(was.methods), list(r.methods))
	}
	if was.to != r.to {
		d.add(true, about, "leads to %s -> %s", was.to, r.to)
	}
	if was.maxBody != r.maxBody {
		d.add(false, about, "largest body %s -> %s", bytesOrAny(was.maxBody), bytesOrAny(r.maxBody))
	}
	d.leaves(about, was.rest, r.rest)
}

// consequence is what another mode means for a request.
func consequence(was, is string) string {
	switch {
	case is == routes.None.String():
		return "anybody gets there, without a token"
	case was == routes.None.String():
		return "a token is needed now"
	case is == routes.Initial.String():
		return "no company is needed any more"
	case is == routes.Strict.String():
		return "a company is needed now"
	}
	return "authz takes what it does not know for strict"
}

func (d *differ) upstreams(old, now view) {
	for _, name := range slices.Sorted(maps.Keys(old.clusters)) {
		if _, stays := now.clusters[name]; !stays {
			d.add(false, fmt.Sprintf("upstream %q", name), "removed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.clusters)) {
		about := fmt.Sprintf("upstream %q", name)
		c := now.clusters[name]
		was, known := old.clusters[name]
		if !known {
			d.add(false, about, "added: %s", c.at)
			continue
		}
		if was.at != c.at {
			d.add(true, about, "address %s -> %s", was.at, c.at)
		}
		d.leaves(about, was.rest, c.rest)
	}
}

// leaves compares what has no words of its own.
func (d *differ) leaves(about string, old, now map[string]string) {
	for _, path := range slices.Sorted(maps.Keys(old)) {
		is, stays := now[path]
		switch {
		case !stays:
			d.add(guards(path), about, "%s: %s -> unset", path, old[path])
		case is != old[path]:
			d.add(guards(path), about, "%s: %s -> %s", path, old[path], is)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if _, was := old[path]; !was {
			d.add(guards(path), about, "%s: unset -> %s", path, now[path])
		}
	}
}

// guards reports whether the gate would be weaker or stronger by a field.
func guards(path string) bool {
	for _, word := range []string{
		"ext_authz", "filters.http.rbac", "early_header_mutation", "headers_with_underscores_action", "normalize_path", "merge_slashes",
		"path_with_escaped_slashes_action", "request_headers_to_remove", "transport_socket", "cors",
	} {
		if strings.Contains(path, word) {
			return true
		}
	}
	return false
}

func quoteRoute(name string) string { return fmt.Sprintf("route %q", name) }

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ",")
}

func bytesOrAny(n int64) string {
	if n == 0 {
		return "any"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

func common(names []string, in map[string]routeView) []string {
	var out []string
	for _, n := range names {
		if _, ok := in[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

// clusterView is an upstream as an operator knows it.
type clusterView struct {
	at   string
	rest map[string]string
}

func viewCluster(c *clusterv3.Cluster) (clusterView, error) {
	var at []string
	for _, locality := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			a := e.GetEndpoint().GetAddress()
			if pipe := a.GetPipe(); pipe != nil {
				at = append(at, "unix://"+pipe.GetPath())
				continue
			}
			at = append(at, fmt.Sprintf("%s:%d", a.GetSocketAddress().GetAddress(), a.GetSocketAddress().GetPortValue()))
		}
	}
	if len(at) == 0 {
		at = []string{"nowhere"}
	}
	bare, _ := proto.Clone(c).(*clusterv3.Cluster)
	bare.LoadAssignment = nil
	rest, err := leavesOf(bare)
	return clusterView{at: strings.Join(at, ","), rest: rest}, err
}

// leavesOf are the single values of a message by their path. Members of a list
// that have a name go by it, so that one more of them is one difference.
func leavesOf(m proto.Message) (map[string]string, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("comparing configurations: %w", err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("comparing configurations: %w", err)
	}
	out := map[string]string{}
	flatten(tree, "", out)
	return out, nil
}

func flatten(tree any, at string, out map[string]string) {
	switch v := tree.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[at] = "{}"
		}
		for key, value := range v {
			if at != "" {
				key = at + "." + key
			}
			flatten(value, key, out)
		}
	case []any:
		seen := map[string]bool{}
		for i, item := range v {
			key := strconv.Itoa(i)
			if named, ok := item.(map[string]any); ok {
				if name, ok := named["name"].(string); ok && !seen[name] {
					seen[name] = true
					key = name
				}
			}
			flatten(item, at+"["+key+"]", out)
		}
	default:
		text, err := json.Marshal(v)
		if err != nil { // what was decoded encodes
			text = fmt.Append(nil, v)
		}
		out[at] = string(text)
	}
}
