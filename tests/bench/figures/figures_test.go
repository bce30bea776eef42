package figures

import (
	"slices"
	"testing"
	"time"
)

func TestSummarise(t *testing.T) {
	tests := []struct {
		name string
		all  []float64
		want [3]float64 // least, median, most
	}{
		{"nothing is zero", nil, [3]float64{}},
		{"one is all three", []float64{2}, [3]float64{2, 2, 2}},
		{"an odd number has a middle", []float64{3, 1, 2}, [3]float64{1, 2, 3}},
		{"an even one has two", []float64{4, 1, 2, 3}, [3]float64{1, 2.5, 4}},
		{"one bad round does not move the middle", []float64{1, 1, 1, 1, 900}, [3]float64{1, 1, 900}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			given := slices.Clone(tt.all)
			got := Summarise(given)
			if (([3]float64{got.Least, got.Median, got.Most}) != tt.want) || !slices.Equal(got.All, tt.all) || !slices.Equal(given, tt.all) {
				t.Errorf("Summarise(%v) = %+v, want least, median, most %v and all in order", tt.all, got, tt.want)
			}
		})
	}
}

func TestRatios(t *testing.T) {
	tests := []struct {
		name                string
		dividends, divisors []float64
		want                []float64
	}{
		{"pair by pair", []float64{2, 9}, []float64{1, 3}, []float64{2, 3}},
		{"a half pair is none", []float64{2, 9}, []float64{1}, []float64{2}},
		{"nothing is divided by nothing", []float64{2, 9}, []float64{0, 3}, []float64{3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ratios(tt.dividends, tt.divisors); !slices.Equal(got, tt.want) {
				t.Errorf("Ratios(%v, %v) = %v, want %v", tt.dividends, tt.divisors, got, tt.want)
			}
		})
	}
}

func TestDistribute(t *testing.T) {
	upTo := func(n int) []time.Duration {
		out := make([]time.Duration, n)
		for i := range out {
			out[i] = time.Duration(n - i) // the wrong way round
		}
		return out
	}
	tests := []struct {
		name string
		all  []time.Duration
		want Distribution
	}{
		{"nothing is zero", nil, Distribution{}},
		{"one is all", upTo(1), Distribution{1, 1, 1, 1, 1}},
		{"of a hundred the 99th is p99", upTo(100), Distribution{100, 50, 90, 99, 100}},
		{"of fifty the last is p99", upTo(50), Distribution{50, 25, 45, 50, 50}},
		{"of a thousand the ten slowest lie beyond p99", upTo(1000), Distribution{1000, 500, 900, 990, 1000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Distribute(tt.all); got != tt.want {
				t.Errorf("Distribute = %+v, want %+v", got, tt.want)
			}
		})
	}
}
