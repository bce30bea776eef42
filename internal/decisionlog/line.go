package decisionlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"google.golang.org/protobuf/encoding/protojson"

	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// kind is what tells a decision from a line of the ordinary log, which has "level"
// and "msg".
const kind = "decision"

// longestLine bounds what is read of one line; one of ours has 64 KiB at most.
const longestLine = 1 << 20

// ErrNoDecision is returned for a line that is something else, such as one of the
// ordinary log.
var ErrNoDecision = errors.New("not a decision")

// words are the outcomes as metrics spell them.
func words() map[gatehousev1.Outcome]string {
	return map[gatehousev1.Outcome]string{
		gatehousev1.Outcome_OUTCOME_ALLOW: "allow",
		gatehousev1.Outcome_OUTCOME_DENY:  "deny",
		gatehousev1.Outcome_OUTCOME_ERROR: "error",
	}
}

// AppendLine adds d as one line of JSON with its end: the JSON of protobuf, with
// the proto's own names in the proto's order, but for a "kind" before all of it and
// for the outcome, which is one word.
func AppendLine(b []byte, d *gatehousev1.Decision) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d)
	if err != nil {
		return b, fmt.Errorf("writing a decision as JSON: %w", err)
	}
	var compact bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&compact, text); err != nil {
		return b, fmt.Errorf("writing a decision as JSON: %w", err)
	}
	members := bytes.TrimPrefix(compact.Bytes(), []byte("{"))
	b = append(b, `{"kind":"`+kind+`"`...)
	if outcome, known := words()[d.GetOutcome()]; known {
		// The first member, because the field is the first of the proto.
		members = bytes.TrimPrefix(members, []byte(`"outcome":"`+d.GetOutcome().String()+`"`))
		b = append(b, `,"outcome":"`+outcome+`"`...)
	} else if len(members) > 1 {
		b = append(b, ',')
	}
	b = append(b, members...)
	return append(b, '\n'), nil
}

// Parse reads a line back. Members that this version does not know are ignored. A
// line of another kind, or that is no JSON at all, is ErrNoDecision.
func Parse(line []byte) (*gatehousev1.Decision, error) {
	if d, ok := parseOurs(line); ok {
		return d, nil
	}
	return parseAny(line)
}

// parseOurs reads a line as AppendLine writes it, with its members in their order, in
// a third of the time.
func parseOurs(line []byte) (*gatehousev1.Decision, bool) {
	members, found := bytes.CutPrefix(line, []byte(`{"kind":"`+kind+`","outcome":"`))
	if !found {
		return nil, false
	}
	word, members, found := bytes.Cut(members, []byte(`"`))
	if !found || bytes.Contains(members, []byte(`"kind"`)) {
		return nil, false // the last one would count
	}
	outcome := gatehousev1.Outcome_OUTCOME_UNSPECIFIED
	for o, w := range words() {
		if string(word) == w {
			outcome = o
		}
	}
	if outcome == gatehousev1.Outcome_OUTCOME_UNSPECIFIED {
		return nil, false
	}
	text := make([]byte, 0, len(line)+16)
	text = append(append(text, `{"outcome":"`...), outcome.String()...)
	text = append(append(text, '"'), members...)
	d := &gatehousev1.Decision{}
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, d) != nil {
		return nil, false
	}
	return d, true
}

// parseAny reads a line with its members in any order.
func parseAny(line []byte) (*gatehousev1.Decision, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(line, &members) != nil || string(members["kind"]) != `"`+kind+`"` {
		return nil, ErrNoDecision
	}
	for outcome, word := range words() {
		if string(members["outcome"]) == `"`+word+`"` {
			members["outcome"] = json.RawMessage(`"` + outcome.String() + `"`)
		}
	}
	delete(members, "kind")
	text, err := json.Marshal(members)
	if err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	d := &gatehousev1.Decision{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	return d, nil
}

// Entry is a decision with the number of its line, from 1.
type Entry struct {
	Line     int
	Decision *gatehousev1.Decision
}

// Read gives the decisions of r in turn, and passes over lines of another kind. An
// error is of one line, with its number in Entry, and reading goes on; only one of
// r itself is the last.
func Read(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		for number := 1; ; number++ {
			line, err := readLine(in)
			if len(line) > 0 {
				d, wrong := Parse(line)
				if !errors.Is(wrong, ErrNoDecision) && !yield(Entry{Line: number, Decision: d}, wrong) {
					return
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Entry{Line: number}, err)
				return
			}
		}
	}
}

// readLine reads a line whole; one that is longer than any of ours is empty.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > longestLine; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
