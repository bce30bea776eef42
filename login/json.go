package login

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody  = 64 << 10
	maxDepth = 4
)

// readBody returns what the client sent, nil if it sent nothing. A body counts
// by its bytes, whatever Content-Length says, and only a body needs a type.
func (x *exchange) readBody() ([]byte, error) {
	if x.r.ContentLength == 0 {
		return nil, nil
	}
	// A length that is too much needs no waiting for the bytes; one that is not
	// is still only what the client says.
	if x.r.ContentLength > maxBody {
		if !isJSON(x.r.Header.Values("Content-Type")) {
			return nil, errContentType
		}
		return nil, errTooLarge
	}
	body := bufio.NewReader(http.MaxBytesReader(x.w, x.r.Body, maxBody))
	_, err := body.Peek(1)
	if errors.Is(err, io.EOF) {
		x.pending = false
		return nil, nil
	}
	if err == nil && !isJSON(x.r.Header.Values("Content-Type")) {
		return nil, errContentType
	}
	var read []byte
	if err == nil {
		read, err = io.ReadAll(body)
	}
	var over *http.MaxBytesError
	switch {
	case err == nil:
		x.pending = false
		return read, nil
	case errors.As(err, &over):
		return nil, errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errTooSlow
	default:
		return nil, errBody.Because(err)
	}
}

// expectBody bounds how long a body may take. The bound stands also where the
// body is refused unread, because the server reads on before it closes; where it
// is read to its end, the server lifts the bound itself.
func (x *exchange) expectBody() {
	x.pending = x.r.ContentLength != 0
	if x.pending {
		// Unsupported by anything but a real connection, which is what can be slow.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(bodyTime))
	}
}

// isJSON accepts application/json in UTF-8, the only charset JSON has (RFC 8259
// section 8.1).
func isJSON(types []string) bool {
	if len(types) != 1 {
		return false
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	charset, named := parameters["charset"]
	return err == nil && media == "application/json" && (!named || strings.EqualFold(charset, "utf-8"))
}

// fault is one thing wrong with a body, in the words of pydantic, which the
// clients of the replaced gateways read. It never repeats what was sent.
type fault struct {
	Type string   `json:"type"`
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
}

// faults are everything wrong with one body.
type faults []fault

func (f faults) Error() string { return fmt.Sprintf("%d faults in the body", len(f)) }
func (f faults) Unwrap() error { return errInvalid }

// add notes a fault of a field.
func (f *faults) add(field, kind, msg string) {
	*f = append(*f, fault{Type: kind, Loc: []string{"body", field}, Msg: msg})
}

// tooLong and holdsNUL are faults of every password.
func (f *faults) tooLong(field string) {
	f.add(field, "string_too_long", "String should have at most 1024 characters")
}

func (f *faults) holdsNUL(field string) {
	f.add(field, "value_error", "Value error, a NUL character is not allowed")
}

// err is nil if nothing was wrong.
func (f *faults) err() error {
	if len(*f) == 0 {
		return nil
	}
	return *f
}

func wrongBody(kind, msg string) error {
	return faults{{Type: kind, Loc: []string{"body"}, Msg: msg}}
}

func malformed() error { return wrongBody("json_invalid", "JSON decode error") }

// value is one member of the body.
type value struct {
	present bool
	null    bool
	text    string
	isText  bool
}

// members are those of a body that an endpoint knows, by name.
type members map[string]value

// decode reads an object and keeps the members that are named; nil, without an
// error, stands for nothing and for null.
//
// encoding/json would not do: it takes the last of two equal names, names in
// another case, whatever stands behind the value, and makes one password of all
// those that are not valid Unicode.
func decode(body []byte, names ...string) (members, error) {
	if len(body) == 0 {
		return nil, nil
	}
	kind, err := wellFormed(body)
	if err != nil {
		return nil, malformed()
	}
	switch kind {
	case 'n':
		return nil, nil
	case '{':
	default:
		return nil, wrongBody("model_attributes_type", "Input should be a valid dictionary or object to extract fields from")
	}
	var object map[string]jsontext.Value
	if err := strict.Unmarshal(body, &object); err != nil {
		return nil, malformed()
	}
	known := make(members, len(names))
	for name, raw := range object {
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
		if i < 0 {
			continue
		}
		if names[i] != name {
			return nil, malformed()
		}
		v := value{present: true, null: raw.Kind() == 'n', isText: raw.Kind() == '"'}
		if v.isText {
			if err := strict.Unmarshal(raw, &v.text); err != nil {
				return nil, malformed()
			}
		}
		known[name] = v
	}
	return known, nil
}

// required is the text of a member that must be there.
func (m members) required(name string, wrong *faults) (string, bool) {
	v := m[name]
	switch {
	case !v.present:
		wrong.add(name, "missing", "Field required")
	case !v.isText:
		wrong.add(name, "string_type", "Input should be a valid string")
	}
	return v.text, v.isText
}

// optional is the text of a member that may be absent or null; kind and msg are
// the fault of one that is neither that nor a text.
func (m members) optional(name, kind, msg string, wrong *faults) (string, bool) {
	v := m[name]
	if v.present && !v.null && !v.isText {
		wrong.add(name, kind, msg)
	}
	return v.text, v.isText
}

// wellFormed walks one value to its end and to the end of the input. The
// defaults of jsontext refuse duplicate names, invalid UTF-8 and surrogates
// that are not paired.
func wellFormed(body []byte) (jsontext.Kind, error) {
	decoder := jsontext.NewDecoder(bytes.NewReader(body))
	first, err := decoder.ReadToken()
	if err != nil {
		return 0, err
	}
	kind := first.Kind()
	for decoder.StackDepth() > 0 {
		if decoder.StackDepth() > maxDepth {
			return 0, errors.New("nested too deeply")
		}
		if _, err := decoder.ReadToken(); err != nil {
			return 0, err
		}
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return 0, errors.New("something stands behind the value")
	}
	return kind, nil
}

// write answers with a, or with the refusal that err asks for, and returns what
// was answered. Nothing else in this package writes to a client.
func (s *Service) write(x *exchange, a answer, err error) answer {
	h := x.w.Header()
	if err != nil {
		p := refusal(err)
		a = answer{status: p.Status, body: map[string]string{"detail": p.Detail}, result: p.Reason, cause: err}
		var wrong faults
		if errors.As(err, &wrong) {
			a.body = map[string]faults{"detail": wrong}
		}
		if p.Challenge != "" {
			h.Set("WWW-Authenticate", p.Challenge)
		}
		if p.RetryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
		}
	}
	if x.pending {
		// Else the server would wait for the rest of the body before it sends
		// the answer.
		h.Set("Connection", "close")
	}
	h.Set("Cache-Control", cmp.Or(a.caching, "no-store"))
	h.Set("X-Content-Type-Options", "nosniff")
	if a.status == http.StatusNoContent {
		x.w.WriteHeader(a.status)
		return a
	}
	h.Set("Content-Type", "application/json")
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(a.body) != nil {
		// Every body is made of strings, numbers and null.
		a.status = http.StatusInternalServerError
	}
	x.w.WriteHeader(a.status)
	// An error here is a client that has gone.
	_, _ = x.w.Write(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	return a
}
