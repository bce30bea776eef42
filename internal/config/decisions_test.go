package config_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestWhereDecisionsAreRecorded(t *testing.T) {
	dir := t.TempDir()
	defaults := config.DecisionLog{Sample: 1, MaxBytes: 100 << 20, MaxFiles: 5}
	to := func(name string) config.DecisionLog {
		d := defaults
		d.To = name
		return d
	}
	for _, tc := range []struct {
		name    string
		environ []string
		want    config.DecisionLog
	}{
		{"nowhere, unless it is set", nil, defaults},
		{"nowhere, where it is set to nothing", []string{"GATEWAY_DECISION_LOG="}, defaults},
		{"standard output", []string{"GATEWAY_DECISION_LOG=stdout"}, to("stdout")},
		{"an absolute name", []string{"GATEWAY_DECISION_LOG=/var/log/decisions.jsonl"}, to("/var/log/decisions.jsonl")},
		{"a relative name is of the working directory", []string{"GATEWAY_DECISION_LOG=logs/decisions.jsonl"}, to(filepath.Join(dir, "logs", "decisions.jsonl"))},
		{
			"all of it",
			[]string{"GATEWAY_DECISION_LOG=stdout", "GATEWAY_DECISION_LOG_SAMPLE=0.05", "GATEWAY_DECISION_LOG_MAX_SIZE=1", "GATEWAY_DECISION_LOG_MAX_FILES=0"},
			config.DecisionLog{To: "stdout", Sample: 0.05, MaxBytes: 1 << 20},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := mustLoad(t, config.Source{Environ: complete(tc.environ...), Dir: dir}, config.NeedAuthz)
			if s.DecisionLog != tc.want {
				t.Errorf("got %+v, want %+v", s.DecisionLog, tc.want)
			}
		})
	}
}

func TestWrongSettingsOfTheDecisionLogAreRefused(t *testing.T) {
	for _, tc := range []struct{ entry, want string }{
		{"DECISION_LOG=a\x01b", "holds characters that cannot be printed"},
		{"DECISION_LOG_SAMPLE=1.01", `"1.01" is not a share from 0 to 1, such as 0.05`},
		{"DECISION_LOG_SAMPLE=-0.1", `"-0.1" is not a share from 0 to 1, such as 0.05`},
		{"DECISION_LOG_SAMPLE=5%", `"5%" is not a share from 0 to 1, such as 0.05`},
		{"DECISION_LOG_SAMPLE=NaN", `"NaN" is not a share from 0 to 1, such as 0.05`},
		{"DECISION_LOG_SAMPLE=1e-3", `"1e-3" is not a share from 0 to 1, such as 0.05`},
		{"DECISION_LOG_MAX_SIZE=0", `"0" is not a whole number from 1 to 102400`},
		{"DECISION_LOG_MAX_SIZE=100M", `"100M" is not a whole number from 1 to 102400`},
		{"DECISION_LOG_MAX_FILES=1001", `"1001" is not a whole number from 0 to 1000`},
	} {
		t.Run(tc.entry, func(t *testing.T) {
			got := faults(t, config.Source{Environ: complete("GATEWAY_" + tc.entry)}, config.NeedAuthz)
			name, _, _ := strings.Cut(tc.entry, "=")
			if want := []string{"GATEWAY_" + name + ": " + tc.want}; !slices.Equal(got, want) {
				t.Errorf("faults %q, want %q", got, want)
			}
		})
	}
}
