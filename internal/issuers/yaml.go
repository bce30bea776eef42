package issuers

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

// yamlReader reads files that may hold a secret in the wrong place, and repeats no
// value of them.
type yamlReader struct{ strictyaml.Reader }

func newReader() *yamlReader {
	const elsewhere = "keys stand in files of their own, and nobody else's private key belongs here"
	return &yamlReader{strictyaml.Reader{Hints: map[string]string{
		"secret": elsewhere, "jwks": elsewhere, "public_key": elsewhere, "private_key": elsewhere, "private_key_file": elsewhere,
		"<<": "merge keys hide what an issuer may do",
	}}}
}

// longestText bounds every text of the file.
const longestText = 1000

// text reads printable text that is not empty.
func (y *yamlReader) text(in, key string, to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.String(n, in, key)
		switch {
		case !ok:
		case text == "":
			y.Fault(n.Line, in, "%s: is empty", key)
		case len(text) > longestText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			y.Fault(n.Line, in, "%s: want at most %d bytes of printable text", key, longestText)
		default:
			*to = text
		}
	}
}

func (y *yamlReader) texts(in, key string, to *[]string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		y.List(n, in, key, func(item *yaml.Node) {
			var text string
			y.text(in, key, &text)(item)
			if text != "" {
				*to = append(*to, text)
			}
		})
	}
}

// one reads one of a few words. off is a truth of older YAML, and a word here.
func (y *yamlReader) one(in, key string, to *string, words ...string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.Scalar(n, in, key, strings.Join(words, " or "), "!!str", "!!bool")
		switch {
		case !ok:
		case !slices.Contains(words, text):
			y.Fault(n.Line, in, "%s: want %s", key, strings.Join(words, " or "))
		default:
			*to = text
		}
	}
}

func (y *yamlReader) duration(in, key string, to *time.Duration) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.Scalar(n, in, key, "a duration such as 30s", "!!str", "!!int")
		if !ok {
			return
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > time.Hour {
			y.Fault(n.Line, in, "%s: want 0s to 1h, such as 30s", key)
			return
		}
		*to = d
	}
}

func (y *yamlReader) instant(in, key string, to *time.Time) func(*yaml.Node) {
	return func(n *yaml.Node) {
		text, ok := y.Scalar(n, in, key, "an RFC 3339 time such as 2031-06-01T00:00:00Z", "!!str", "!!timestamp")
		if !ok {
			return
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			y.Fault(n.Line, in, "%s: want an RFC 3339 time such as 2031-06-01T00:00:00Z", key)
			return
		}
		*to = at
	}
}
