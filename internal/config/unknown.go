package config

import (
	"maps"
	"slices"
	"strings"
)

// maxUnknown bounds the warning: a Kubernetes Service called "gateway" alone
// puts half a dozen names with our prefix into every container beside it.
const maxUnknown = 20

// warnUnknown makes one warning of all names with our prefix, in any letter
// case, that are no setting.
func warnUnknown(rows []row, env, dotenv map[string]string, r *report) {
	known := make(map[string]bool)
	for _, row := range rows {
		known[row.full()] = true
		if row.hasFile() {
			known[row.full()+fileSuffix] = true
		}
	}
	unknown := make(map[string]bool)
	for _, names := range []map[string]string{env, dotenv} {
		for name := range names {
			if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) && !known[name] {
				unknown[name] = true
			}
		}
	}
	if len(unknown) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(unknown))
	more := ""
	if len(names) > maxUnknown {
		names, more = names[:maxUnknown], " and more"
	}
	for i, name := range names {
		names[i] = cleanName(name)
		if near := nearest(name, known); near != "" {
			names[i] += " (did you mean " + near + "?)"
		}
	}
	r.warnings = append(r.warnings, "unknown settings are ignored: "+strings.Join(names, ", ")+more)
}

// cleanName keeps a name on one line.
func cleanName(name string) string {
	name = strings.Map(func(c rune) rune {
		if c > ' ' && c < 0x7f {
			return c
		}
		return '?'
	}, name)
	if len(name) > 64 {
		name = name[:64] + "..."
	}
	return name
}

// nearest is the known name at an edit distance of at most 3, and of no more than
// half of what follows the prefix, or the one that the prefix was put before or the
// _FILE after by mistake.
func nearest(name string, known map[string]bool) string {
	upper := strings.ToUpper(name)
	for _, candidate := range []string{upper, strings.TrimPrefix(upper, prefix), strings.TrimSuffix(upper, fileSuffix)} {
		if known[candidate] {
			return candidate
		}
	}
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", min(4, (len(name)-len(prefix))/2+1)
	for _, candidate := range slices.Sorted(maps.Keys(known)) {
		if d := distance(upper, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
