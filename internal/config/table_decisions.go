package config

import (
	"fmt"
	"strconv"
)

// DecisionsStdout is the DecisionLog.To that means standard output.
const DecisionsStdout = "stdout"

// DecisionLog says where decisions are recorded.
type DecisionLog struct {
	To string // DecisionsStdout, the absolute name of a file, or empty: nowhere
	// Sample is the share of allows that are recorded, 0 to 1.
	Sample float64
	// MaxBytes is how large a file becomes before the next one begins, and MaxFiles
	// how many full ones are kept beside it.
	MaxBytes int64
	MaxFiles int
}

func decisionRows() []row {
	return []row{
		{
			name: "DECISION_LOG", by: NeedAuthz, names: aDecisionFile,
			meaning: "Where authz records what it decides, one JSON object a line (`\"kind\":\"decision\"`): `stdout`, or a file, which is one process's own; a relative name is of the working directory. Unset: nowhere.",
			read:    into(printable(4096), func(s *Settings) *string { return &s.DecisionLog.To }),
		},
		{
			name: "DECISION_LOG_SAMPLE", fallback: "1", by: NeedAuthz,
			meaning: "The share of allows that are recorded, `0` to `1`. Denials and errors always are.",
			read:    into(share, func(s *Settings) *float64 { return &s.DecisionLog.Sample }),
		},
		{
			name: "DECISION_LOG_MAX_SIZE", fallback: "100", by: NeedAuthz,
			meaning: "The MiB after which a file is full, 1 to 102400: it becomes `NAME.1`, the one before that `NAME.2`, and so on.",
			read: func(s *Settings, text string) error {
				n, err := whole[uint32](1, 102_400)(text)
				s.DecisionLog.MaxBytes = int64(n) << 20
				return err
			},
		},
		{
			name: "DECISION_LOG_MAX_FILES", fallback: "5", by: NeedAuthz,
			meaning: "How many full files are kept beside the one that is written, 0 to 1000; older ones are removed.",
			read:    into(whole[int](0, 1000), func(s *Settings) *int { return &s.DecisionLog.MaxFiles }),
		},
	}
}

// aDecisionFile reports whether the text of DECISION_LOG names a file.
func aDecisionFile(text string) bool { return text != DecisionsStdout }

// share is a number from 0 to 1.
func share(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !decimal.MatchString(text) || n > 1 {
		return 0, fmt.Errorf("%s is not a share from 0 to 1, such as 0.05", quote(text))
	}
	return n, nil
}
