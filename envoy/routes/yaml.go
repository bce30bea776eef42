package routes

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

// yamlReader reads tables, which hold nothing secret.
type yamlReader struct{ strictyaml.Reader }

func newReader() *yamlReader {
	const verified = "certificates are always verified"
	return &yamlReader{strictyaml.Reader{Plain: true, Hints: map[string]string{
		"insecure": verified, "insecure_skip_verify": verified, "verify": verified,
		"<<": "merge keys hide what a route says",
	}}}
}

// The readers of fields. A value of the wrong kind is a fault and leaves the
// field as it is.

func (y *yamlReader) text(in, key string, to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if text, ok := y.String(n, in, key); ok {
			*to = text
		}
	}
}

func (y *yamlReader) texts(in, key string, to *[]string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		y.List(n, in, key, func(item *yaml.Node) {
			if text, ok := y.String(item, in, key); ok {
				*to = append(*to, text)
			}
		})
	}
}

func (y *yamlReader) number(in, key string, to *uint32) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.Scalar(n, in, key, "a whole number", "!!int")
		if !ok {
			return
		}
		value, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			y.Fault(n.Line, in, "%s: %s is not a whole number from 0 to 4294967295", key, text)
			return
		}
		*to = uint32(value)
	}
}

// duration is written as Go writes it: 15s, 1m30s.
func (y *yamlReader) duration(in, key string, to *time.Duration) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.Scalar(n, in, key, "a duration such as 15s", "!!str")
		if !ok {
			return
		}
		// Envoy counts milliseconds; a day is longer than anyone waits.
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Millisecond || d > 24*time.Hour {
			y.Fault(n.Line, in, "%s: duration %q: want 1ms to 24h, such as 15s", key, text)
			return
		}
		*to = d
	}
}

// size is a number of bytes, or of KiB, MiB or GiB.
func (y *yamlReader) size(in, key string, to *uint32) func(*yaml.Node) {
	return func(n *yaml.Node) {
		bytes, ok := parseSize(n.Value)
		if n.Kind != yaml.ScalarNode || !ok {
			y.Fault(n.Line, in, "%s: want a number of bytes from 1 to 1GiB, such as 65536, 64KiB or 10MiB, not %s", key, y.Shown(n))
			return
		}
		*to = bytes
	}
}

func parseSize(text string) (uint32, bool) {
	unit := uint64(1)
	for suffix, size := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, size
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || n > maxBodyLimit/unit {
		return 0, false
	}
	return uint32(n * unit), true
}
