package health_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/health"
)

// leveled is an operations face with the log that it changes the level of.
func leveled(configured slog.Level) (ops http.Handler, level *health.LogLevel, log *slog.Logger, said *words) {
	level, said = health.NewLogLevel(configured), &words{}
	log = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: level}))
	return health.Ops(prometheus.NewRegistry(), func() error { return nil }, level, log), level, log, said
}

// words is a log that is read while a timer writes to it.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// here is a request as kubectl port-forward, docker exec and curl bring it.
func here(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "127.0.0.1:9192"
	r.Header.Set("Content-Type", "application/json")
	return r
}

func TestTheLogLevelIsChangedFromThisMachineOnly(t *testing.T) {
	t.Parallel()
	const asked = `{"level":"debug","for":"10m"}`
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	peer := func(at string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = at } }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	cases := []struct {
		name         string
		target, body string
		change       func(*http.Request)
		want         int
	}{
		{"a body changes it", "/log-level", asked, nil, 200},
		{"so does a query", "/log-level?level=DEBUG&for=10m", "", nil, 200},
		{"over IPv6 too", "/log-level", asked, peer("[::1]:40000"), 200},
		{"a v4 peer of a v6 socket is itself", "/log-level", asked, peer("[::ffff:127.0.0.1]:40000"), 200},
		{"by the name of the machine to itself", "/log-level", asked, host("localhost:8082"), 200},
		{"a header that no page can send will do as well", "/log-level?level=DEBUG", "", func(r *http.Request) {
			r.Header.Del("Content-Type")
			r.Header.Set("X-Requested-With", "curl")
		}, 200},
		{"another machine may not", "/log-level", asked, peer("10.0.0.7:40000"), 403},
		{"nor who comes through a sidecar", "/log-level", asked, peer("127.0.0.6:40000"), 403},
		{"nor a Unix socket's nobody", "/log-level", asked, peer("@"), 403},
		{"nor a name that was turned to this machine", "/log-level", asked, host("evil.example:9192"), 403},
		{"nor one that begins like it", "/log-level", asked, host("localhost.evil.example"), 403},
		{"nor no name at all", "/log-level", asked, host(""), 403},
		{"nor through a proxy", "/log-level", asked, set("X-Forwarded-For", "127.0.0.1"), 403},
		{"nor through Envoy", "/log-level", asked, set("X-Envoy-External-Address", "127.0.0.1"), 403},
		{"nor for a page", "/log-level", asked, set("Origin", "http://localhost:9192"), 403},
		{"nor for a page without an origin", "/log-level", asked, set("Sec-Fetch-Site", "none"), 403},
		{"nor as a form can send it", "/log-level?level=DEBUG", "", set("Content-Type", "application/x-www-form-urlencoded"), 415},
		{"nor as plain text", "/log-level", asked, set("Content-Type", "text/plain"), 415},
		{"a level must be one", "/log-level", `{"level":"LOUD"}`, nil, 400},
		{"and be named", "/log-level", `{"for":"10m"}`, nil, 400},
		{"a time must be one", "/log-level", `{"level":"DEBUG","for":"soon"}`, nil, 400},
		{"and no longer than a day", "/log-level", `{"level":"DEBUG","for":"25h"}`, nil, 400},
		{"and not over before it began", "/log-level", `{"level":"DEBUG","for":"-1m"}`, nil, 400},
		{"a misspelt member is told", "/log-level", `{"level":"DEBUG","form":"10m"}`, nil, 400},
		{"a body has a bound", "/log-level", `{"level":"` + strings.Repeat("x", 5000) + `"}`, nil, 413},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ops, level, _, said := leveled(slog.LevelWarn)
			r := here(http.MethodPut, c.target, c.body)
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			ops.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
			want, logged := slog.LevelWarn, false
			if c.want == 200 {
				want, logged = slog.LevelDebug, true
			}
			if level.Level() != want {
				t.Errorf("the level is %v, want %v", level.Level(), want)
			}
			if got := strings.Contains(said.String(), "log level changed"); got != logged {
				t.Errorf("the log says %q", said)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("a page may read the answer")
			}
		})
	}
}

func TestAPreflightIsNotAnswered(t *testing.T) {
	t.Parallel()
	ops, _, _, _ := leveled(slog.LevelInfo)
	r := here(http.MethodOptions, "/log-level", "")
	r.Header.Set("Origin", "http://evil.example")
	r.Header.Set("Access-Control-Request-Method", "PUT")
	w := httptest.NewRecorder()
	ops.ServeHTTP(w, r)
	if w.Code < 400 || w.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

func TestAChangedLogLevelGoesBackByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ops, level, log, said := leveled(slog.LevelInfo)
		put := func(body string) health.LevelState {
			t.Helper()
			w := httptest.NewRecorder()
			ops.ServeHTTP(w, here(http.MethodPut, "/log-level", body))
			var state health.LevelState
			if err := json.Unmarshal(w.Body.Bytes(), &state); err != nil || w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return state
		}
		after := func(d time.Duration, want slog.Level) {
			t.Helper()
			time.Sleep(d) //nolint:forbidigo // of the bubble, where no time passes
			synctest.Wait()
			if level.Level() != want {
				t.Errorf("after %v the level is %v, want %v", d, level.Level(), want)
			}
		}
		// Without a time: a quarter of an hour.
		state := put(`{"level":"DEBUG"}`)
		if state.Level != "DEBUG" || state.Configured != "INFO" || state.Until == nil || time.Until(*state.Until).Round(time.Minute) != 15*time.Minute {
			t.Errorf("state = %+v", state)
		}
		log.Debug("heard")
		if !strings.Contains(said.String(), "heard") {
			t.Error("a line at DEBUG is not heard")
		}
		after(14*time.Minute, slog.LevelDebug)
		after(2*time.Minute, slog.LevelInfo)
		if !strings.Contains(said.String(), "configured one again") {
			t.Errorf("nobody was told: %s", said)
		}

		// A second change takes the place of the first, its time too.
		put(`{"level":"DEBUG","for":"1m"}`)
		put(`{"level":"ERROR","for":"10m"}`)
		after(2*time.Minute, slog.LevelError)
		after(9*time.Minute, slog.LevelInfo)

		// Back by hand, nothing is left to go back.
		put(`{"level":"DEBUG","for":"1m"}`)
		if state := put(`{"level":"info"}`); state.Until != nil || state.Level != "INFO" {
			t.Errorf("state = %+v", state)
		}
		after(2*time.Minute, slog.LevelInfo)
	})
}

func TestAnybodyWhoMaySeeFiguresMaySeeTheLogLevel(t *testing.T) {
	t.Parallel()
	ops, _, _, _ := leveled(slog.LevelError + 4)
	r := httptest.NewRequest(http.MethodGet, "/log-level", nil)
	r.RemoteAddr = "10.0.0.7:40000"
	w := httptest.NewRecorder()
	ops.ServeHTTP(w, r)
	if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != `{"level":"CRITICAL","configured":"CRITICAL"}` {
		t.Errorf("got %d %s", w.Code, got)
	}
}
