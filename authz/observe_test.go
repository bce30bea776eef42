package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// decisions are the counters of a registry as "decision reason route", and all
// of its names.
func decisions(t *testing.T, r prometheus.Gatherer) (counts map[string]float64, names map[string]uint64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts, names = map[string]float64{}, map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			names[f.GetName()] += m.GetHistogram().GetSampleCount()
			if f.GetName() != "gatehouse_authz_decisions_total" {
				continue
			}
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			counts[labels["decision"]+" "+labels["reason"]+" "+labels["route"]] = m.GetCounter().GetValue()
		}
	}
	return counts, names
}

func TestEveryReasonOfEveryConfiguredRouteStartsAtZero(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options(t, token.Rules{}, saying(member()))
	o.Registerer, o.Routes = registry, []string{"query", "ingest", "query"}
	newGate(t, o)
	counts, _ := decisions(t, registry)
	want := map[string]float64{}
	for _, route := range []string{"query", "ingest", "other"} {
		want["allow ok "+route] = 0
		for _, p := range problem.Decisions() {
			decision := "deny"
			if p.Status >= 500 {
				decision = "error"
			}
			want[decision+" "+p.Reason+" "+route] = 0
		}
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
}

func TestChecksAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	var user authz.Directory = saying(member())
	o := options(t, token.Rules{}, directory(func(ctx context.Context, u identity.UserID, s identity.SessionID, c identity.CompanyID) (identity.Standing, error) {
		return user.Standing(ctx, u, s, c)
	}))
	o.Registerer = registry
	s := newGate(t, o)

	check(t, s, request(inCompany()))
	check(t, s, request(inCompany(), extension("route", "learned")))
	check(t, s, request(inCompany(), extension("route", "")))
	check(t, s, request(""))
	user = failing(errors.New("down"))
	check(t, s, request(inCompany()))

	counts, names := decisions(t, registry)
	for series, want := range map[string]float64{
		"allow ok query":               1,
		"allow ok learned":             1,
		"allow ok other":               1,
		"deny not_authenticated query": 1,
		"error unavailable query":      1,
		"error internal query":         0,
	} {
		if counts[series] != want {
			t.Errorf("%s is %v, want %v", series, counts[series], want)
		}
	}
	for name, want := range map[string]uint64{
		"gatehouse_authz_check_duration_seconds":       5,
		"gatehouse_authz_user_lookup_duration_seconds": 4,
		"gatehouse_authz_checks_in_flight":             0,
	} {
		if got, known := names[name]; !known || got != want {
			t.Errorf("%s has %d observations, want %d", name, got, want)
		}
	}
}

func TestNoLabelGrowsWithoutBound(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options(t, token.Rules{}, saying(member()))
	o.Registerer = registry
	s := newGate(t, o)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 100 {
				check(t, s, request("", extension("route", fmt.Sprintf("route-%d-%d", worker, i))))
			}
		})
	}
	wg.Wait()
	counts, _ := decisions(t, registry)
	routes, total := map[string]bool{}, 0.0
	for series, count := range counts {
		routes[strings.Fields(series)[2]] = true
		total += count
	}
	if len(routes) > 66 || total != 400 {
		t.Errorf("%d routes and %v checks are counted, want at most 66 (two configured, 64 learned) and 400", len(routes), total)
	}
	if counts["deny not_authenticated other"] != 400-64 {
		t.Errorf("%v checks are counted under other", counts["deny not_authenticated other"])
	}
}

// lines is what was logged, decoded.
func lines(t *testing.T, log *bytes.Buffer) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		delete(m, "time")
		out = append(out, m)
	}
	return out
}

func jsonLog(level slog.Level) (*bytes.Buffer, *slog.Logger) {
	var b bytes.Buffer
	return &b, slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: level}))
}

func TestEachDecisionIsOneLineOfLog(t *testing.T) {
	base := func(more map[string]any) map[string]any {
		m := map[string]any{"msg": "authorization check", "request_id": "req-1", "route": "query", "mode": "strict", "user_id": userText, "company_id": companyText, "duration_ms": 0.0}
		for k, v := range more {
			if m[k] = v; v == nil {
				delete(m, k)
			}
		}
		return m
	}
	cases := []struct {
		name  string
		level slog.Level
		in    *authv3.CheckRequest
		user  authz.Directory
		want  []map[string]any
	}{
		{"an allow, at DEBUG", slog.LevelDebug, request(inCompany()), saying(member()), []map[string]any{base(map[string]any{"level": "DEBUG", "decision": "allow", "reason": "ok"})}},
		{"an allow, at INFO", slog.LevelInfo, request(inCompany()), saying(member()), nil},
		{"a denial before anyone is known", slog.LevelInfo, request(""), saying(member()), []map[string]any{base(map[string]any{"level": "INFO", "decision": "deny", "reason": "not_authenticated", "user_id": nil, "company_id": nil})}},
		{"a malformed token says what is wrong with it, in our words", slog.LevelInfo, request("Bearer x"), saying(member()), []map[string]any{base(map[string]any{"level": "INFO", "decision": "deny", "reason": "token_malformed", "user_id": nil, "company_id": nil, "cause": "Invalid token format or structure.: not three parts"})}},
		{"a denial of someone known", slog.LevelInfo, request(inCompany()), saying(identity.Standing{}), []map[string]any{base(map[string]any{"level": "INFO", "decision": "deny", "reason": "user_not_found"})}},
		{"a failure, with its cause", slog.LevelError, request(inCompany()), failing(errors.New("connection refused")), []map[string]any{base(map[string]any{"level": "ERROR", "decision": "error", "reason": "unavailable", "cause": "Authorization is temporarily unavailable.: looking the user up: connection refused"})}},
		{"a request id that is no text", slog.LevelInfo, request("", func(in *authv3.CheckRequest) {
			in.Attributes.Request.Http.Headers = nil
			in.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				{Key: "x-request-id", RawValue: []byte("\x1b[2J\n\xff" + strings.Repeat("é", 100))},
			}}
		}), saying(member()), []map[string]any{base(map[string]any{"level": "INFO", "decision": "deny", "reason": "not_authenticated", "user_id": nil, "company_id": nil, "request_id": "_[2J__" + strings.Repeat("_", 29)})}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, token.Rules{}, c.user)
			log, logger := jsonLog(c.level)
			o.Logger = logger
			check(t, newGate(t, o), c.in)
			if diff := cmp.Diff(c.want, lines(t, log)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoLogHoldsATokenOrAnEmail(t *testing.T) {
	for _, c := range table {
		log, logger := jsonLog(slog.LevelDebug - 4)
		inner := c.gate
		c.gate = func(o *authz.Options) {
			if inner != nil {
				inner(o)
			}
			o.Logger = logger
		}
		c.ask(t)
		if log.Len() == 0 {
			t.Errorf("%s: nothing is logged", c.name)
		}
		for _, word := range []string{"eyJ", "Bearer", "@", secret, `"email"`} {
			if strings.Contains(log.String(), word) {
				t.Errorf("%s: the log holds %q: %s", c.name, word, log)
			}
		}
	}
}

func TestAFloodOfFailuresIsToldInAFewLines(t *testing.T) {
	var user authz.Directory = failing(errors.New("down"))
	log, logger := jsonLog(slog.LevelInfo)
	o := options(t, token.Rules{}, directory(func(ctx context.Context, u identity.UserID, s identity.SessionID, c identity.CompanyID) (identity.Standing, error) {
		return user.Standing(ctx, u, s, c)
	}))
	clock := now
	o.Logger, o.Clock = logger, func() time.Time { return clock }
	s := newGate(t, o)
	told := func() (full, summaries int, left float64) {
		for _, line := range lines(t, log) {
			if line["decision"] == "error" {
				full++
			} else {
				summaries++
				left += line["count"].(float64)
			}
		}
		log.Reset()
		return full, summaries, left
	}

	for range 1000 {
		check(t, s, request(inCompany()))
	}
	if full, summaries, _ := told(); full != 5 || summaries != 0 {
		t.Errorf("a second of failures is told in %d lines and %d summaries, want 5 and none", full, summaries)
	}
	clock = clock.Add(time.Second)
	user = saying(member())
	check(t, s, request(inCompany())) // any check tells what was left out
	if full, summaries, left := told(); full != 0 || summaries != 1 || left != 995 {
		t.Errorf("%d lines and %d summaries of %v follow, want one of 995", full, summaries, left)
	}
	user = failing(errors.New("down again"))
	for range 7 {
		check(t, s, request(inCompany()))
	}
	clock = clock.Add(time.Minute)
	check(t, s, request(inCompany()))
	if full, summaries, left := told(); full != 6 || summaries != 1 || left != 2 {
		t.Errorf("the next flood is told in %d lines and %d summaries of %v, want 6, 1 and 2", full, summaries, left)
	}
}
