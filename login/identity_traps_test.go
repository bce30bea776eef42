package login_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/login"
)

// What an ordinary login service falls into, as a client of this one meets it. The
// numbers are those of the table in CONTRIBUTING.md.

// M1: Go's bcrypt compares 72 bytes and drops the rest silently. M2: it repeats its key
// with one NUL between. M3: it takes $2x$ and $2$ for hashes. M4: what is no hash at all
// is done with in a microsecond. Here none of them logs in, and each costs one hash.
func TestM1ToM4NoHashVerifiesWhatWasNotSet(t *testing.T) {
	words := strings.Repeat("a", 72)
	whole, short := bcryptOf(t, words), bcryptOf(t, "abcdefgh")
	for _, tt := range []struct {
		name   string
		hash   string
		words  string
		status int
		hashed int // hashes that were computed
	}{
		{"the password", short, "abcdefgh", 200, 1},
		{"the longest password that bcrypt can hold", whole, words, 200, 1},
		{"M1: the same and more", whole, words + "XYZ", 401, 1},
		{"M2: the password, NUL, the password", short, "abcdefgh\x00abcdefgh", 422, 0},
		{"M2: NUL alone, six times", bcryptOf(t, ""), "\x00\x00\x00\x00\x00\x00", 422, 0},
		{"M3: the prefix 2x", strings.Replace(short, "$2a$", "$2x$", 1), "abcdefgh", 401, 1},
		{"M3: the prefix 2", strings.Replace(short, "$2a$", "$2$", 1), "abcdefgh", 401, 1},
		{"M3: the prefix 2b", strings.Replace(short, "$2a$", "$2b$", 1), "abcdefgh", 200, 1},
		{"M3: the prefix 2y", strings.Replace(short, "$2a$", "$2y$", 1), "abcdefgh", 200, 1},
		{"M4: no hash", "", "abcdefgh", 401, 1},
		{"M4: an exclamation mark", "!", "!!!!!!", 401, 1},
		{"M4: the password itself", "abcdefgh", "abcdefgh", 401, 1},
		{"M4: half a hash", short[:40], "abcdefgh", 401, 1},
		{"M4: a cost that nobody can pay", strings.Replace(short, "$04$", "$31$", 1), "abcdefgh", 401, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newStageWith(t, holding(adaWith(tt.hash)), password.Options{Scheme: password.Bcrypt})
			if w := g.send(credentials(adaEmail, tt.words)); w.Code != tt.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if got := g.count("gatehouse_login_hash_seconds"); got != tt.hashed {
				t.Errorf("%d hashes were computed, want %d", got, tt.hashed)
			}
		})
	}
}

// M7: encoding/json makes one password of many: of all that is no valid Unicode, of
// whichever of two comes last, of names in another case. None of these bodies is read.
func TestM7NoTwoPasswordsAreOne(t *testing.T) {
	// What each of them would have been read as.
	for _, read := range []string{"\ufffdpassword", rightWords} {
		g := newStage(t, holding(adaWith(argonOf(t, read))))
		if w := g.send(credentials(adaEmail, read)); w.Code != http.StatusOK {
			t.Fatalf("%q: got %d %s", read, w.Code, w.Body)
		}
		for name, body := range map[string]string{
			"a lone surrogate":          `{"email":"ada@example.com","password":"\ud800password"}`,
			"another lone surrogate":    `{"email":"ada@example.com","password":"\udfffpassword"}`,
			"a byte that is no UTF-8":   "{\"email\":\"ada@example.com\",\"password\":\"\xffpassword\"}",
			"an overlong byte":          "{\"email\":\"ada@example.com\",\"password\":\"\xc0password\"}",
			"two passwords":             `{"email":"ada@example.com","password":"another one","password":"` + rightWords + `"}`,
			"two addresses":             `{"email":"bob@example.com","email":"ada@example.com","password":"` + rightWords + `"}`,
			"a name in another case":    `{"email":"ada@example.com","Password":"` + rightWords + `"}`,
			"both cases":                `{"email":"ada@example.com","password":"another one","PASSWORD":"` + rightWords + `"}`,
			"something behind it":       `{"email":"ada@example.com","password":"` + rightWords + `"}{}`,
			"a letter behind it":        `{"email":"ada@example.com","password":"` + rightWords + `"}x`,
			"NUL in it":                 `{"email":"ada@example.com","password":"` + rightWords + `\u0000"}`,
			"null":                      `{"email":"ada@example.com","password":null}`,
			"a list of it":              `{"email":"ada@example.com","password":["` + rightWords + `"]}`,
			"nested past any need":      `{"email":"ada@example.com","password":"` + rightWords + `","x":[[[[[]]]]]}`,
			"a byte order mark":         "\ufeff" + `{"email":"ada@example.com","password":"` + rightWords + `"}`,
			"the address with a NUL":    `{"email":"ada@example.com\u0000","password":"` + rightWords + `"}`,
			"the address with a letter": `{"email":"ada@example.com\ud800","password":"` + rightWords + `"}`,
		} {
			if w := g.send(post(loginPath, body)); w.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s: got %d %s", name, w.Code, w.Body)
			}
		}
	}
}

// D8: a taken address is a 409, unless the operator conceals it: then it is a 201 like
// any other, and the id in it is nobody's.
func TestD8ATakenAddressIsConcealedWhereTheOperatorWantsIt(t *testing.T) {
	for conceal, want := range map[bool]int{false: http.StatusConflict, true: http.StatusCreated} {
		g, db := openTo(t, func(how *login.Registration) { how.Conceal = conceal })
		first := decodeBody(t, g.send(registration("new@example.com", newWords)))
		w := g.send(registration("New@Example.com", newWords))
		if w.Code != want {
			t.Errorf("concealed %t: got %d %s, want %d", conceal, w.Code, w.Body, want)
		}
		again, _ := decodeBody(t, w)["user_id"].(string)
		if !conceal {
			continue
		}
		if id, err := identity.ParseUserID(again); err != nil || id.IsZero() || again == first["user_id"] {
			t.Errorf("the id is %q, %v; the user's is %v", again, err, first["user_id"])
		}
		if _, err := db.FindUser(t.Context(), again); err == nil {
			t.Errorf("%s is somebody", again)
		}
	}
}

// D12: whatever this service has of its own lies below /api/v1/users and
// /api/v1/companies; below /api/v1/auth, which leads to another service where there is
// one, it has registration alone. D18: logging out, changing the password and asking who
// one is are among it.
func TestD12AndD18WhereThingsAre(t *testing.T) {
	g := newStage(t, store{})
	var description struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	w := g.send(httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &description); err != nil || len(description.Paths) < 10 {
		t.Fatalf("%d paths, %v", len(description.Paths), err)
	}
	elsewhere := map[string]bool{
		"/api/v1/auth/register": true, "/.well-known/jwks.json": true, "/openapi.json": true, "/health": true, "/": true,
	}
	for path := range description.Paths {
		if !elsewhere[path] && !strings.HasPrefix(path, "/api/v1/users/") && !strings.HasPrefix(path, "/api/v1/companies/") {
			t.Errorf("%s is a path of ours", path)
		}
	}
	for _, one := range []struct{ method, path string }{
		{http.MethodPost, logoutPath}, {http.MethodPost, passwordPath}, {http.MethodGet, mePath}, {http.MethodPost, ensurePath},
	} {
		r := post(one.path, `{"current_password":"`+rightWords+`","new_password":"`+newWords+`"}`)
		r.Method = one.method
		if w := g.send(r); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s without a token: %d %s, WWW-Authenticate %q", one.method, one.path, w.Code, w.Body, w.Header().Get("WWW-Authenticate"))
		}
		moved := post(strings.Replace(one.path, "/users/", "/auth/", 1), "{}")
		if w := g.send(moved); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", moved.URL.Path, w.Code, w.Body)
		}
	}
}
