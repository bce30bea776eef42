package login_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/login"
)

// description is openapi.json as a client reads it. Its schemas are JSON Schema
// 2020-12, which is what OpenAPI 3.1 made of them.
type description struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Responses map[string]response `json:"responses"`
		Headers   map[string]header   `json:"headers"`
	} `json:"components"`

	shapes  map[*regexp.Regexp]string // the whole of a path to the one that is described
	schemas *jsonschema.Compiler
	mu      sync.Mutex // of schemas: tests run side by side
}

type operation struct {
	ID       string                `json:"operationId"`
	Setting  string                `json:"x-gatehouse-setting"` // without which the path does not exist
	Security []map[string][]string `json:"security"`
	Body     *struct {
		Content map[string]json.RawMessage `json:"content"`
	} `json:"requestBody"`
	Responses map[string]response `json:"responses"`
}

type response struct {
	Ref     string                     `json:"$ref"`
	Headers map[string]header          `json:"headers"`
	Content map[string]json.RawMessage `json:"content"`

	at string // where it stands, as a JSON pointer
}

type header struct {
	Ref      string `json:"$ref"`
	Required bool   `json:"required"`
}

// theDescription is read once for all tests.
var theDescription = sync.OnceValues(func() (*description, error) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		return nil, err
	}
	d := &description{schemas: jsonschema.NewCompiler()}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, err
	}
	d.shapes = make(map[*regexp.Regexp]string, len(d.Paths))
	for template := range d.Paths {
		d.shapes[regexp.MustCompile("^"+parameter.ReplaceAllString(regexp.QuoteMeta(template), aUUID)+"$")] = template
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return d, d.schemas.AddResource("openapi.json", document)
})

func described(t *testing.T) *description {
	t.Helper()
	d, err := theDescription()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pointer is a JSON pointer (RFC 6901) below a part of the document.
func pointer(parts ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(escape.Replace(p)))
	}
	return b.String()
}

// valid holds a value against the schema at a place of the document.
func (d *description) valid(at string, value any) error {
	d.mu.Lock()
	schema, err := d.schemas.Compile("openapi.json#" + at)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func (d *description) validText(at, text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return d.valid(at, value)
}

// Ids in paths are UUIDs; whatever else stands in their place is another path.
var parameter = regexp.MustCompile(`\\\{[a-z_]+\\\}`)

const aUUID = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`

// find is the path of the description that a request's is.
func (d *description) find(path string) (string, map[string]operation) {
	for shape, template := range d.shapes {
		if shape.MatchString(path) {
			return template, d.Paths[template]
		}
	}
	return "", nil
}

// response is that of an operation for a status.
func (d *description) response(template, method string, status int) (response, bool) {
	key := strconv.Itoa(status)
	found, ok := d.Paths[template][method].Responses[key]
	found.at = pointer("paths", template, method, "responses", key)
	if found.Ref != "" {
		return d.component(strings.TrimPrefix(found.Ref, "#/components/responses/"))
	}
	return found, ok
}

func (d *description) component(name string) (response, bool) {
	found, ok := d.Components.Responses[name]
	found.at = pointer("components", "responses", name)
	return found, ok
}

// permits says what of an answer is not described.
func (d *description) permits(r *http.Request, sent []byte, w *httptest.ResponseRecorder) error {
	template, methods := d.find(r.URL.Path)
	method := strings.ToLower(r.Method)
	op, known := methods[method]
	if r.Method != strings.ToUpper(r.Method) {
		known = false // methods are told apart by case (RFC 9110 section 9.1)
	}
	var want response
	var ok bool
	switch {
	case methods == nil, w.Code == http.StatusNotFound && switched(methods):
		want, ok = d.component("NotFound")
		ok = ok && w.Code == http.StatusNotFound
	case !known:
		want, ok = d.component("MethodNotAllowed")
		ok = ok && w.Code == http.StatusMethodNotAllowed
		var allowed []string
		for m := range methods {
			allowed = append(allowed, strings.ToUpper(m))
		}
		slices.Sort(allowed)
		if got := w.Header().Get("Allow"); got != strings.Join(allowed, ", ") {
			return fmt.Errorf("%s allows %q, and %q is described", template, got, allowed)
		}
	default:
		want, ok = d.response(template, method, w.Code)
	}
	if !ok {
		return fmt.Errorf("%s %s: the status %d is not described", r.Method, r.URL.Path, w.Code)
	}
	if err := d.permitsHeaders(want, w); err != nil {
		return fmt.Errorf("%s %s: %d: %w", r.Method, r.URL.Path, w.Code, err)
	}
	if w.Code < http.StatusMultipleChoices && known {
		if err := d.permitsRequest(template, method, op, r, sent); err != nil {
			return fmt.Errorf("%s %s was answered %d: %w", r.Method, r.URL.Path, w.Code, err)
		}
	}
	switch {
	case len(want.Content) == 0 && w.Body.Len() == 0:
		return nil
	case len(want.Content) == 0:
		return fmt.Errorf("%s %s: %d has a body: %s", r.Method, r.URL.Path, w.Code, w.Body)
	}
	kind := w.Header().Get("Content-Type")
	if _, ok := want.Content[kind]; !ok {
		return fmt.Errorf("%s %s: %d is %q, which is not described", r.Method, r.URL.Path, w.Code, kind)
	}
	if err := d.validText(want.at+pointer("content", kind, "schema"), w.Body.String()); err != nil {
		return fmt.Errorf("%s %s: %d %s: %w", r.Method, r.URL.Path, w.Code, w.Body, err)
	}
	return nil
}

// switched paths exist where a setting says so.
func switched(methods map[string]operation) bool {
	for _, op := range methods {
		if op.Setting == "" {
			return false
		}
	}
	return true
}

// tellingHeaders are those that a client goes by; none may be there undescribed.
var tellingHeaders = []string{"WWW-Authenticate", "Retry-After", "Allow", "Location", "Set-Cookie"}

func (d *description) permitsHeaders(want response, w *httptest.ResponseRecorder) error {
	for _, name := range tellingHeaders {
		if _, ok := want.Headers[name]; !ok && w.Header().Get(name) != "" {
			return fmt.Errorf("%s: %q is not described", name, w.Header().Get(name))
		}
	}
	for name, h := range want.Headers {
		at := want.at + pointer("headers", name)
		if h.Ref != "" {
			component := strings.TrimPrefix(h.Ref, "#/components/headers/")
			h, at = d.Components.Headers[component], pointer("components", "headers", component)
		}
		got := w.Header().Values(name)
		if len(got) > 1 || h.Required && len(got) == 0 {
			return fmt.Errorf("%s is there %d times", name, len(got))
		}
		if len(got) == 0 {
			continue
		}
		var value any = got[0]
		if n, err := strconv.Atoi(got[0]); err == nil {
			value = n
		}
		if err := d.valid(at+"/schema", value); err != nil {
			return fmt.Errorf("%s: %q: %w", name, got[0], err)
		}
	}
	return nil
}

// permitsRequest says what of a request that was taken a client would not have known
// it may send.
func (d *description) permitsRequest(template, method string, op operation, r *http.Request, sent []byte) error {
	if len(op.Security) > 0 && r.Header.Get("Authorization") == "" {
		return fmt.Errorf("without the token that is described")
	}
	if op.Body == nil || len(sent) == 0 {
		return nil
	}
	if err := d.validText(pointer("paths", template, method, "requestBody", "content", "application/json", "schema"), string(sent)); err != nil {
		return fmt.Errorf("and its body %.200s is not as described: %w", sent, err)
	}
	return nil
}

// heard keeps what is read of a body.
type heard struct {
	io.Reader
	io.Closer
}

// overhear returns what the handler reads of the body of a request.
func overhear(r *http.Request) *bytes.Buffer {
	var sent bytes.Buffer
	if r.Body != nil {
		r.Body = heard{io.TeeReader(r.Body, &sent), r.Body}
	}
	return &sent
}

func TestTheDescriptionIsServedToAnybody(t *testing.T) {
	g := newStage(t, store{})
	w := g.send(httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusOK || w.Body.String() != compact.String() {
		t.Errorf("got %d, and %d bytes of %d", w.Code, w.Body.Len(), compact.Len())
	}
}

// The metrics know every route from the start, so that they say what there is.
func TestEveryRouteIsDescribedAndNoOther(t *testing.T) {
	d := described(t)
	g := newStage(t, store{ping: func(context.Context) error { return nil }}, func(o *login.Options) {
		o.Mail = login.Mail{Sender: noMail{}, Tokens: noMail{}, ResetFor: time.Hour, VerifyFor: time.Hour, ResetURL: "https://app.example.com/?token={token}", VerifyURL: "https://app.example.com/?token={token}"}
	})
	var routes, ids []string
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "gatehouse_login_request_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "route" && label.GetValue() != "unmatched" {
					routes = append(routes, label.GetValue())
				}
			}
		}
	}
	slices.Sort(routes)
	for template, methods := range d.Paths {
		path := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(template, acme.String())
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
			op, known := methods[strings.ToLower(method)]
			g.log.Reset()
			w := g.send(httptest.NewRequest(method, path, nil)) // which looks at Allow
			if !known {
				continue
			}
			ids = append(ids, op.ID)
			if lines := g.lines(); w.Code == http.StatusMethodNotAllowed || len(lines) != 1 || lines[0]["route"] != op.ID {
				t.Errorf("%s %s is %s, and answered %d by %v", method, path, op.ID, w.Code, lines)
			}
		}
	}
	slices.Sort(ids)
	if diff := cmp.Diff(slices.Compact(routes), ids); diff != "" {
		t.Errorf("routes (-served +described):\n%s", diff)
	}
}

// noMail turns the routes on that need mail, and does none of it.
type noMail struct{ login.OneTime }

func (noMail) Send(context.Context, identity.Mail) error { return errUntested }

// What the gate answers in the place of a service on a strict route may be referred
// to from the description of that service.
func TestEveryRefusalOfTheGateIsDescribed(t *testing.T) {
	d := described(t)
	names := map[int]string{401: "Unauthorized", 403: "GateForbidden", 500: "GateInternal", 503: "GateUnavailable"}
	refusals := append(problem.Decisions(), problem.TokenAudience("authenticated"), problem.ClaimsMissing("aud", "exp"))
	for _, p := range refusals {
		if p.Reason == "token_audience" && !strings.Contains(p.Detail, "'") || p.Reason == "claims_missing" && !strings.Contains(p.Detail, ":") {
			continue // the heads of those that say which
		}
		want, ok := d.component(names[p.Status])
		if !ok {
			t.Errorf("%d is not described", p.Status)
			continue
		}
		w := httptest.NewRecorder()
		if p.Challenge != "" {
			w.Header().Set("WWW-Authenticate", p.Challenge)
		}
		if p.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
		}
		if err := d.permitsHeaders(want, w); err != nil {
			t.Errorf("%s: %v", p.Reason, err)
		}
		if err := d.validText(want.at+pointer("content", "application/json", "schema"), string(p.Body())); err != nil {
			t.Errorf("%s: %v", p.Reason, err)
		}
	}
}

// A test that cannot fail would hold nothing.
func TestAnAnswerThatIsNotDescribedIsFound(t *testing.T) {
	d := described(t)
	tests := []struct {
		name    string
		method  string
		path    string
		sent    string
		status  int
		headers map[string]string
		body    string
		want    string // in the error; empty: none
	}{
		{"as described", "POST", loginPath, `{}`, 401, map[string]string{"WWW-Authenticate": "Bearer"}, badCredentials, ""},
		{"another text", "POST", loginPath, `{}`, 401, map[string]string{"WWW-Authenticate": "Bearer"}, `{"detail":"No such user"}`, "detail"},
		{"another challenge", "POST", loginPath, `{}`, 401, map[string]string{"WWW-Authenticate": "Basic"}, badCredentials, "WWW-Authenticate"},
		{"no challenge", "POST", loginPath, `{}`, 401, nil, badCredentials, "0 times"},
		{"another status", "POST", loginPath, `{}`, 418, nil, badCredentials, "418"},
		{"a header that says something", "GET", "/", "", 200, map[string]string{"Retry-After": "1"}, `{"message":"x is running!"}`, "Retry-After"},
		{"another type", "GET", "/", "", 200, map[string]string{"Content-Type": "text/plain"}, `{"message":"x is running!"}`, "text/plain"},
		{"a member missing", "GET", "/", "", 200, nil, `{}`, "message"},
		{"a body where there is none", "POST", logoutPath, ``, 204, nil, `{}`, "has a body"},
		{"a path that is not described", "GET", "/metrics", "", 200, nil, `{}`, "200"},
		{"a method that is not described", "PUT", loginPath, "", 200, map[string]string{"Allow": "POST"}, `{}`, "200"},
		{"another method in Allow", "PUT", loginPath, "", 405, map[string]string{"Allow": "GET, POST"}, `{"detail":"Method Not Allowed"}`, "allows"},
		{"a request that is not described is taken", "POST", "/api/v1/auth/register", `{"email":"a@example.com"}`, 201, nil, `{"message":"Registration successful. Please check your email for confirmation.","user_id":"` + ada.String() + `"}`, "password"},
		{"so is one without a token", "GET", mePath, "", 200, nil, `{}`, "without the token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", "application/json")
			for name, value := range tt.headers {
				w.Header().Set(name, value)
			}
			w.WriteHeader(tt.status)
			_, _ = w.WriteString(tt.body)
			r := httptest.NewRequest(tt.method, tt.path, nil)
			if tt.path != mePath {
				r.Header.Set("Authorization", "Bearer a-token")
			}
			err := d.permits(r, []byte(tt.sent), w)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
