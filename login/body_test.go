package login_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/password"
)

const (
	jsonInvalid = `{"detail":[{"type":"json_invalid","loc":["body"],"msg":"JSON decode error"}]}`
	noObject    = `{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from"}]}`
	noBody      = `{"detail":[{"type":"missing","loc":["body"],"msg":"Field required"}]}`
	wrongType   = `{"detail":"Content-Type must be application/json."}`
	tooLarge    = `{"detail":"Request body too large."}`
)

// ofSize is a lawful login of n bytes.
func ofSize(n int) string {
	head := `{"email":"nobody@example.com","password":"long enough","padding":"`
	return head + strings.Repeat("x", n-len(head)-2) + `"}`
}

func TestWhichBodiesOfALoginAreRead(t *testing.T) {
	const fields = `"email":"nobody@example.com","password":"long enough"`
	as := func(types ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header["Content-Type"] = types
		}
	}
	tests := []struct {
		name   string
		body   string
		change func(*http.Request)
		status int
		want   string
	}{
		// Read, and then refused for the words in it: nobody has that address.
		{"an object", `{` + fields + `}`, nil, 401, badCredentials},
		{"unknown members are ignored", `{` + fields + `,"remember":true,"device":{"a":[1]}}`, nil, 401, badCredentials},
		{"white space around it", " \r\n\t{ " + fields + " }\n", nil, 401, badCredentials},
		{"escapes in names", `{"\u0065mail":"nobody@example.com","password":"long enough"}`, nil, 401, badCredentials},
		{"surrogates in pairs", `{"email":"nobody@example.com","password":"\ud83d\udd11\ud83d\udd11\ud83d\udd11\ud83d\udd11\ud83d\udd11\ud83d\udd11"}`, nil, 401, badCredentials},
		{"four levels", `{` + fields + `,"x":[[[]]]}`, nil, 401, badCredentials},
		{"64 KiB", ofSize(64 << 10), nil, 401, badCredentials},
		{"64 KiB in chunks", ofSize(64 << 10), func(r *http.Request) { chunked(r) }, 401, badCredentials},
		{"a charset of UTF-8", `{` + fields + `}`, as("Application/JSON; Charset=UTF-8"), 401, badCredentials},
		{"a parameter that means nothing", `{` + fields + `}`, as("application/json; profile=x"), 401, badCredentials},

		{"no body", "", func(r *http.Request) { r.Body = http.NoBody; r.ContentLength = 0 }, 422, noBody},
		{"no body and no type", "", as(), 422, noBody},
		{"an empty body in chunks and no type", "", func(r *http.Request) { chunked(r); r.Header.Del("Content-Type") }, 422, noBody},
		{"null", `null`, nil, 422, noBody},
		{"an array", `[{` + fields + `}]`, nil, 422, noObject},
		{"a text", `"` + `x` + `"`, nil, 422, noObject},
		{"a number", `1`, nil, 422, noObject},
		{"white space alone", "  ", nil, 422, jsonInvalid},
		{"cut short", `{` + fields, nil, 422, jsonInvalid},
		{"no JSON at all", `email=nobody@example.com`, nil, 422, jsonInvalid},
		{"a trailing comma", `{` + fields + `,}`, nil, 422, jsonInvalid},
		{"a comment", `{` + fields + `/**/}`, nil, 422, jsonInvalid},
		{"single quotes", `{'email':'nobody@example.com','password':'long enough'}`, nil, 422, jsonInvalid},
		{"NaN", `{` + fields + `,"x":NaN}`, nil, 422, jsonInvalid},
		{"a byte order mark", "\ufeff{" + fields + `}`, nil, 422, jsonInvalid},
		{"a second value behind it", `{` + fields + `}{}`, nil, 422, jsonInvalid},
		{"something behind null", `null {}`, nil, 422, jsonInvalid},
		{"text behind it", `{` + fields + `} x`, nil, 422, jsonInvalid},
		{"a NUL behind it", `{` + fields + "}\x00", nil, 422, jsonInvalid},
		{"a member twice", `{` + fields + `,"password":"long enough"}`, nil, 422, jsonInvalid},
		{"a member twice, once in escapes", `{` + fields + `,"passwor\u0064":"long enough"}`, nil, 422, jsonInvalid},
		{"an unknown member twice", `{` + fields + `,"x":1,"x":1}`, nil, 422, jsonInvalid},
		{"a member twice further in", `{` + fields + `,"x":{"y":1,"y":2}}`, nil, 422, jsonInvalid},
		{"a name in another case", `{"email":"nobody@example.com","Password":"long enough"}`, nil, 422, jsonInvalid},
		{"a name in another case beside the right one", `{` + fields + `,"EMAIL":"x"}`, nil, 422, jsonInvalid},
		{"a name in another case of another script", `{"email":"nobody@example.com","pa\u017f\u017fword":"long enough"}`, nil, 422, jsonInvalid},
		{"invalid UTF-8 in a password", `{"email":"nobody@example.com","password":"long ` + "\xff" + `enough"}`, nil, 422, jsonInvalid},
		{"invalid UTF-8 in a name", `{` + fields + `,"` + "\xc0\xaf" + `":1}`, nil, 422, jsonInvalid},
		{"a high surrogate alone", `{"email":"nobody@example.com","password":"long enough\ud800"}`, nil, 422, jsonInvalid},
		{"a low surrogate alone", `{"email":"nobody@example.com","password":"long enough\udc00"}`, nil, 422, jsonInvalid},
		{"surrogates in the wrong order", `{"email":"nobody@example.com","password":"long enough\udc00\ud800"}`, nil, 422, jsonInvalid},
		{"a surrogate in UTF-8", `{"email":"nobody@example.com","password":"long enough` + "\xed\xa0\x80" + `"}`, nil, 422, jsonInvalid},
		{"a raw control character", `{"email":"nobody@example.com","password":"long` + "\n" + `enough"}`, nil, 422, jsonInvalid},
		{"five levels", `{` + fields + `,"x":[[[[]]]]}`, nil, 422, jsonInvalid},
		{"many levels", strings.Repeat("[", 60<<10), nil, 422, jsonInvalid},

		{"one byte more than 64 KiB", ofSize(64<<10 + 1), nil, 413, tooLarge},
		{"one byte more than 64 KiB in chunks", ofSize(64<<10 + 1), func(r *http.Request) { chunked(r) }, 413, tooLarge},
		{"no type", `{` + fields + `}`, as(), 415, wrongType},
		{"no type in chunks", `{` + fields + `}`, func(r *http.Request) { chunked(r); r.Header.Del("Content-Type") }, 415, wrongType},
		{"a form", `{` + fields + `}`, as("application/x-www-form-urlencoded"), 415, wrongType},
		{"plain text", `{` + fields + `}`, as("text/plain"), 415, wrongType},
		{"a relative of JSON", `{` + fields + `}`, as("application/problem+json"), 415, wrongType},
		{"another charset", `{` + fields + `}`, as("application/json; charset=utf-16"), 415, wrongType},
		{"a type that cannot be read", `{` + fields + `}`, as("application/json; charset"), 415, wrongType},
		{"two types", `{` + fields + `}`, as("application/json", "text/plain"), 415, wrongType},
		{"the type is judged before the size", ofSize(64<<10 + 1), as("text/plain"), 415, wrongType},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := holding(adaWith(""))
				if tt.status != http.StatusUnauthorized {
					s = store{} // an answer about the body must not depend on who exists
				}
				g := newStage(t, s)
				r := post(loginPath, tt.body)
				if tt.change != nil {
					tt.change(r)
				}
				w := g.send(r)
				if w.Code != tt.status || w.Body.String() != tt.want {
					t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.want)
				}
				if tt.status != http.StatusUnauthorized {
					if n := g.count("gatehouse_login_attempts_total", "invalid"); n != 1 {
						t.Errorf("invalid was counted %d times", n)
					}
					if n := g.count("gatehouse_login_hash_seconds"); n != 0 {
						t.Errorf("%d hashes were computed", n)
					}
				}
			})
		})
	}
}

func TestTheFieldsOfALogin(t *testing.T) {
	type fault struct{ kind, field string }
	email := func(kind string) fault { return fault{kind, "email"} }
	words := func(kind string) fault { return fault{kind, "password"} }
	tests := []struct {
		name  string
		email any // nil: absent
		words any
		want  []fault // nil: accepted
	}{
		{"six characters", adaEmail, "123456", nil},
		{"six characters of four bytes", adaEmail, strings.Repeat("\U0001F511", 6), nil},
		{"1024 characters of four bytes", adaEmail, strings.Repeat("\U0001F511", 1024), nil},
		{"control characters other than NUL", adaEmail, "tab\tand\x01bell\x07", nil},
		{"spaces alone", adaEmail, "      ", nil},
		{"a replacement character that was meant", adaEmail, "long \ufffd enough", nil},
		{"an address of another script", "\u7528\u6237@\u4f8b\u5b50.\u516c\u53f8", "long enough", nil},
		{"five characters", adaEmail, "12345", []fault{words("string_too_short")}},
		{"two characters of four bytes", adaEmail, "\U0001F511\U0001F511", []fault{words("string_too_short")}},
		{"1025 characters", adaEmail, strings.Repeat("a", 1025), []fault{words("string_too_long")}},
		{"a NUL", adaEmail, "abcdefgh\x00abcdefgh", []fault{words("value_error")}},
		{"a password that is a number", adaEmail, 1234567890, []fault{words("string_type")}},
		{"a password that is an object", adaEmail, map[string]any{}, []fault{words("string_type")}},
		{"a password that is null", adaEmail, json.RawMessage("null"), []fault{words("string_type")}},
		{"no password", adaEmail, nil, []fault{words("missing")}},
		{"no address", nil, "long enough", []fault{email("missing")}},
		{"an address that is null", json.RawMessage("null"), "long enough", []fault{email("string_type")}},
		{"an address that is a list", []string{adaEmail}, "long enough", []fault{email("string_type")}},
		{"an empty address", "", "long enough", []fault{email("value_error")}},
		{"an address without an at sign", "ada", "long enough", []fault{email("value_error")}},
		{"an address with a NUL", "ada\x00@example.com", "long enough", []fault{email("value_error")}},
		{"an address with a line break", "ada@example.com\r\nx: y", "long enough", []fault{email("value_error")}},
		{"an address of 255 characters", strings.Repeat("l", 64) + "@" + strings.Repeat("d.", 94) + "ab", "long enough", []fault{email("value_error")}},
		{"everything at once", nil, nil, []fault{email("missing"), words("missing")}},
		{"everything at once, otherwise", "ada", "12345", []fault{email("value_error"), words("string_too_short")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				object := map[string]any{}
				if tt.email != nil {
					object["email"] = tt.email
				}
				if tt.words != nil {
					object["password"] = tt.words
				}
				body, err := json.Marshal(object)
				if err != nil {
					t.Fatal(err)
				}
				s := holding(adaWith(""))
				if tt.want != nil {
					s = store{}
				}
				g := newStage(t, s)
				w := g.send(post(loginPath, string(body)))
				if tt.want == nil {
					if w.Code != http.StatusUnauthorized {
						t.Errorf("got %d %s, want it read and refused", w.Code, w.Body)
					}
					return
				}
				var answered struct {
					Detail []struct {
						Type string   `json:"type"`
						Loc  []string `json:"loc"`
						Msg  string   `json:"msg"`
					} `json:"detail"`
				}
				if err := json.Unmarshal(w.Body.Bytes(), &answered); err != nil || w.Code != http.StatusUnprocessableEntity {
					t.Fatalf("got %d %s (%v)", w.Code, w.Body, err)
				}
				var got []fault
				for _, d := range answered.Detail {
					if len(d.Loc) != 2 || d.Loc[0] != "body" || d.Msg == "" {
						t.Fatalf("the fault %+v", d)
					}
					got = append(got, fault{d.Type, d.Loc[1]})
				}
				if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(fault{})); diff != "" {
					t.Errorf("faults (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestARefusalRepeatsNothingOfTheRequest(t *testing.T) {
	const marker = "sesame"
	bodies := []string{
		`{"email":"sesame","password":"sesame"`,
		`{"email":"sesame","password":"seså"}`,
		`{"email":{"sesame":1},"password":["sesame"]}`,
		`{"sesame":1,"sesame":2}`,
		`{"EMAIL":"sesame"}`,
		`"sesame"`,
		`{"company_id":"sesame","invitation_token":7}`,
	}
	for _, path := range []string{loginPath, ensurePath, "/sesame"} {
		for _, body := range bodies {
			t.Run(path+" "+body, func(t *testing.T) {
				g := newStage(t, store{})
				r := post(path+"?sesame", body)
				r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
				w := g.send(r)
				if w.Code < 400 || strings.Contains(w.Body.String(), marker) {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
				if strings.Contains(g.log.String(), marker) {
					t.Errorf("the log repeats it: %s", g.log)
				}
			})
		}
	}
}

// Whatever is sent: no fault of ours, and an answer that keeps every promise.
func FuzzLoginThroughTheDoor(f *testing.F) {
	for _, seed := range []string{
		`{"email":"ada@example.com","password":"the right words"}`,
		`{"email":"ada@example.com","password":"\u0000\ud800"}`,
		`null`, `[]`, `{"email":1,"password":{}}`, `{"Email":""}`, "\xff", "",
	} {
		f.Add(seed, "application/json")
	}
	f.Add("x", "text/plain;=")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		synctest.Test(t, func(t *testing.T) {
			g := newStageWith(t, holding(adaWith("")), password.Options{})
			r := httptest.NewRequest(http.MethodPost, loginPath, strings.NewReader(body))
			r.Header["Content-Type"] = []string{contentType}
			switch w := g.send(r); w.Code {
			case 401, 413, 415, 422:
			default:
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
		})
	})
}
