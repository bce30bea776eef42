// Package micro runs Go benchmarks of this tree in process and reads their
// figures. It must never know what they stand for.
package micro

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/atenex/gatehouse/tests/bench/tool"
)

// Benchmark is one line of `go test -bench`.
type Benchmark struct {
	Package string             `json:"package"`
	Name    string             `json:"name"` // without "Benchmark" and the number of Ps
	Runs    int                `json:"runs"`
	Figures map[string]float64 `json:"figures"` // by unit, such as "ns/op"
}

// Run runs the benchmarks of a package whose names match, for so long each.
// None that match is no error: none are returned.
func Run(ctx context.Context, env map[string]string, pkg, match string, each time.Duration) ([]Benchmark, error) {
	out, err := tool.Run(ctx, env, "go", "test", "-run", "^$", "-bench", match, "-benchmem", "-count", "3", "-benchtime", each.String(), "-timeout", "5m", pkg)
	if err != nil {
		return nil, err
	}
	return parse(pkg, out)
}

// line is "BenchmarkName/case-2   	 1000	  123.4 ns/op	  0 B/op ...".
var line = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+(\d+)\s+(.*)$`)

func parse(pkg string, text []byte) ([]Benchmark, error) {
	var out []Benchmark
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		runs, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, err
		}
		b := Benchmark{Package: pkg, Name: m[1], Runs: runs, Figures: map[string]float64{}}
		words := strings.Fields(m[3])
		if len(words)%2 != 0 {
			return nil, fmt.Errorf("figures without units: %q", lines.Text())
		}
		for i := 0; i < len(words); i += 2 {
			value, err := strconv.ParseFloat(words[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", lines.Text(), err)
			}
			b.Figures[words[i+1]] = value
		}
		out = append(out, b)
	}
	return out, nil
}

// Worst is the highest figure of a unit among a benchmark and its cases. false:
// no such benchmark, or it does not tell that.
func Worst(all []Benchmark, name, unit string) (float64, bool) {
	worst, found := 0.0, false
	for _, b := range all {
		if b.Name != name && !strings.HasPrefix(b.Name, name+"/") {
			continue
		}
		if v, ok := b.Figures[unit]; ok && (!found || v > worst) {
			worst, found = v, true
		}
	}
	return worst, found
}

// Least is the lowest figure of a unit among the runs of a benchmark: what else a
// machine does can only add to a time.
func Least(all []Benchmark, name, unit string) (float64, bool) {
	least, found := 0.0, false
	for _, b := range all {
		if v, ok := b.Figures[unit]; ok && b.Name == name && (!found || v < least) {
			least, found = v, true
		}
	}
	return least, found
}
