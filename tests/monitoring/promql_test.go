package monitoring

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These read as much of a query as the check needs. All that they find is asked
// of a real Prometheus, which knows the language; what they would overlook are
// names in a form that our files do not use, and a metric is found in any form.
var (
	selector = regexp.MustCompile(`\b((?:gatehouse|envoy|go|process)_\w+|up)\b(\{[^}]*\})?`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) ?\(([^)]*)\)`)
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	inText   = regexp.MustCompile(`\{\{ *\$labels\.(\w+)`)
	inLegend = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
)

// selectors are the series that an expression asks for, each as it would be
// asked for alone.
func selectors(expr string) (all []string) {
	// Names of metrics in quotes and labels in groupings are neither.
	bare := grouping.ReplaceAllString(expr, "")
	for _, m := range selector.FindAllStringSubmatchIndex(bare, -1) {
		if inside(bare, m[0]) {
			continue
		}
		all = append(all, bare[m[0]:m[1]])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inside reports whether the place is between the braces of a selector.
func inside(expr string, at int) bool {
	before := quoted.ReplaceAllString(expr[:at], "")
	return strings.Count(before, "{") > strings.Count(before, "}")
}

// groups are the labels that an expression groups by, or leaves out.
func groups(expr string) (all []string) {
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, label := range strings.Split(m[1], ",") {
			if label = strings.TrimSpace(label); label != "" {
				all = append(all, label)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestTheReaderOfQueriesFindsNamesAndLabels(t *testing.T) {
	t.Parallel()
	const expr = `sum by (job, le) (rate(gatehouse_a_bucket{job=~"$job",x="envoy_not_this"}[5m])) / ignoring (state) up > envoy_b`
	if got, want := selectors(expr), []string{"envoy_b", `gatehouse_a_bucket{job=~"$job",x="envoy_not_this"}`, "up"}; !slices.Equal(got, want) {
		t.Errorf("selectors = %q, want %q", got, want)
	}
	if got, want := groups(expr), []string{"job", "le", "state"}; !slices.Equal(got, want) {
		t.Errorf("groups = %q, want %q", got, want)
	}
}
