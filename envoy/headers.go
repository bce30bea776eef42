package envoy

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"

	"github.com/atenex/gatehouse/envoy/routes"
)

// onlyForwarded takes every header away but the kept ones and these. Envoy can
// remove what matches an expression, and RE2 has no "not", so the expressions
// spell out what is no such name: one for each first letter, because Envoy bounds
// the size of one.
//
// Authorization is for the route to take away, where it is not wanted, and the time
// that authz gives an exchange for the router, which sends it nowhere.
func onlyForwarded(names []string) *mutationv3.Mutations {
	pass := slices.Concat(routes.KeptHeaders(), names, []string{"authorization", "x-envoy-upstream-stream-duration-ms"})
	byFirst := map[byte][]string{}
	for _, name := range pass {
		byFirst[name[0]] = append(byFirst[name[0]], name[1:])
	}
	firsts := slices.Sorted(maps.Keys(byFirst))
	// ':' begins what is no header but the request line.
	expressions := []string{"[^:" + string(firsts) + "].*"}
	for _, first := range firsts {
		expressions = append(expressions, string(first)+otherThan(byFirst[first]))
	}
	m := &mutationv3.Mutations{}
	for _, e := range expressions {
		m.RequestMutations = append(m.RequestMutations, &rulesv3.HeaderMutation{
			Action: &rulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{KeyMatcher: matching(e)}},
		})
	}
	return m
}

// otherThan is an expression for every text that is none of words, which hold
// lower-case letters, digits and hyphens.
func otherThan(words []string) string {
	whole := false
	byFirst := map[byte][]string{}
	for _, w := range words {
		if w == "" {
			whole = true
			continue
		}
		byFirst[w[0]] = append(byFirst[w[0]], w[1:])
	}
	if len(byFirst) == 0 {
		return ".+"
	}
	firsts := slices.Sorted(maps.Keys(byFirst))
	// A hyphen sorts before letters and digits and is a plain one there.
	alternatives := []string{"[^" + string(firsts) + "].*"}
	for _, first := range firsts {
		alternatives = append(alternatives, regexp.QuoteMeta(string(first))+otherThan(byFirst[first]))
	}
	out := "(" + strings.Join(alternatives, "|") + ")"
	if !whole {
		out += "?"
	}
	return out
}
