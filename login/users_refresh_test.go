package login_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/login"
)

const (
	refreshPath  = "/api/v1/users/token/refresh"
	sessionsPath = "/api/v1/users/me/sessions"
)

func withRefresh(o *login.Options) { o.RefreshIdle = 168 * time.Hour }

// tokens are those of an answer.
type tokens struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int    `json:"expires_in"`
	RefreshToken     string `json:"refresh_token"`
	RefreshExpiresIn int    `json:"refresh_expires_in"`
}

func tokensOf(t *testing.T, w *httptest.ResponseRecorder) tokens {
	t.Helper()
	var got tokens
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return got
}

func refreshWith(secret string) *http.Request {
	body, _ := json.Marshal(map[string]string{"refresh_token": secret})
	return post(refreshPath, string(body))
}

func TestRefreshing(t *testing.T) {
	g, db := onPostgres(t, withRefresh)
	create(t, db, person("ada@example.com", g.hash(rightWords)))
	first := tokensOf(t, g.send(credentials(adaEmail, rightWords)))
	if first.RefreshToken == "" || first.RefreshExpiresIn < 168*3600-5 {
		t.Fatalf("a login gives %+v", first)
	}
	second := tokensOf(t, g.send(refreshWith(first.RefreshToken)))
	if second.TokenType != "bearer" || second.ExpiresIn != 86400 || second.RefreshToken == first.RefreshToken {
		t.Errorf("a refresh gives %+v", second)
	}
	if w := g.send(asUser(httptest.NewRequest(http.MethodGet, "/api/v1/users/me", nil), second.AccessToken)); w.Code != http.StatusOK {
		t.Errorf("the new token is refused: %d %s", w.Code, w.Body)
	}
	if w := g.send(asUser(post("/api/v1/users/logout", ""), second.AccessToken)); w.Code != http.StatusNoContent {
		t.Fatalf("logout: %d %s", w.Code, w.Body)
	}
	for name, secret := range map[string]string{
		"of a session that was ended": second.RefreshToken, "that nobody has": "gatehouse_rt_" + strings.Repeat("A", 43), "that is none": "x", "that is empty": "",
	} {
		w := g.send(refreshWith(secret))
		if w.Code != http.StatusUnauthorized || strings.TrimSpace(w.Body.String()) != `{"detail":"Invalid refresh token."}` {
			t.Errorf("a refresh token %s: %d %s", name, w.Code, w.Body)
		}
	}
	if got := g.count("gatehouse_refreshes_total", "bad_refresh_token"); got != 4 {
		t.Errorf("%d refusals counted, want 4", got)
	}
	for name, body := range map[string]string{"no body": "", "no token": "{}", "a number": `{"refresh_token":1}`, "a long one": `{"refresh_token":"` + strings.Repeat("x", 300) + `"}`} {
		if w := g.send(post(refreshPath, body)); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if strings.Contains(g.log.String(), first.RefreshToken) || strings.Contains(g.log.String(), second.RefreshToken) {
		t.Error("the log holds a refresh token")
	}
}

func TestWithoutTheSettingThereAreNoRefreshTokens(t *testing.T) {
	g, db := onPostgres(t)
	create(t, db, person("ada@example.com", g.hash(rightWords)))
	w := g.send(credentials(adaEmail, rightWords))
	if tokensOf(t, w); strings.Contains(w.Body.String(), "refresh") {
		t.Errorf("a login says %s", w.Body)
	}
	if w := g.send(refreshWith("x")); w.Code != http.StatusNotFound {
		t.Errorf("%d %s, want 404", w.Code, w.Body)
	}
}

func TestTheListOfSessions(t *testing.T) {
	late := false
	g, db := onPostgres(t, func(o *login.Options) {
		o.Now = func() time.Time {
			if late {
				return time.Now().Add(11 * time.Minute)
			}
			return time.Now()
		}
	})
	create(t, db, person("ada@example.com", g.hash(rightWords)))
	create(t, db, person("grace@example.com", g.hash(rightWords)))
	asking := tokensOf(t, g.send(credentials(adaEmail, rightWords))).AccessToken
	other := credentials(adaEmail, rightWords)
	other.Header.Set("User-Agent", "another browser")
	tokensOf(t, g.send(other))
	stranger := tokensOf(t, g.send(credentials("grace@example.com", rightWords))).AccessToken

	list := func(token string) (found struct {
		Sessions []struct {
			ID        string  `json:"id"`
			UserAgent *string `json:"user_agent"`
			Current   bool    `json:"current"`
		} `json:"sessions"`
	}) {
		w := g.send(asUser(httptest.NewRequest(http.MethodGet, sessionsPath, nil), token))
		if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return found
	}
	own := list(asking).Sessions
	if len(own) != 2 || own[0].Current || !own[1].Current || own[0].UserAgent == nil || *own[0].UserAgent != "another browser" {
		t.Fatalf("ada sees %+v", own)
	}
	end := func(token, id, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodDelete, sessionsPath+"/"+id, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		return g.send(asUser(r, token))
	}
	for _, test := range []struct {
		name, token, id, body string
		late                  bool
		status                int
		want                  string
	}{
		{"a stranger's", stranger, own[0].ID, "", false, 404, `{"detail":"Session not found."}`},
		{"one that nobody has", asking, "11111111-2222-4333-8444-555555555555", "", false, 404, `{"detail":"Session not found."}`},
		{"one that is no id", asking, "x", "", false, 404, `{"detail":"Not Found"}`},
		{"another one, long after the login", asking, own[0].ID, "", true, 403, `{"detail":"Log in again, or give the current password."}`},
		{"a stranger's, long after the login", stranger, own[0].ID, "", true, 403, `{"detail":"Log in again, or give the current password."}`},
		{"with a wrong password", asking, own[0].ID, `{"current_password":"wrong-words"}`, true, 400, `{"detail":"Current password is incorrect."}`},
		{"with the password", asking, own[0].ID, `{"current_password":"` + rightWords + `"}`, true, 204, ""},
		{"once more", asking, own[0].ID, "", false, 204, ""},
		{"the one that asks, long after the login", asking, own[1].ID, "", true, 204, ""},
		{"with a token of an ended session", asking, own[1].ID, "", false, 401, `{"detail":"Token has been revoked."}`},
	} {
		late = test.late
		w := end(test.token, test.id, test.body)
		if got := strings.TrimSpace(w.Body.String()); w.Code != test.status || got != test.want {
			t.Errorf("%s: %d %s, want %d %s", test.name, w.Code, got, test.status, test.want)
		}
	}
	late = false
	if left := list(stranger).Sessions; len(left) != 1 {
		t.Errorf("grace has %d sessions, want 1", len(left))
	}
}
