package authz

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// The bounds of what is recorded of a request, in bytes and numbers. Whoever sends
// a request chooses most of it.
const (
	maxPath        = 1024
	maxText        = 256
	maxList        = 16
	maxMemberships = 64
)

// record hands a decision over to the recorder, if there is one and it wants it. A
// fault in here is told, and changes no answer.
func (g *Gate) record(ctx context.Context, r request, d decision, t *trail, start time.Time, took time.Duration) {
	defer func() {
		if thrown := recover(); thrown != nil {
			g.observer.unrecorded(ctx, thrown, start.Add(took))
		}
	}()
	if g.recorder == nil || !g.recorder.Wants(d.outcome.published()) {
		return
	}
	out := g.recorded(r, d, t, start)
	out.DurationMs = milliseconds(took)
	out.TraceId = traceID(ctx)
	g.recorder.Record(out)
}

// recorded is the decision with all that it went by. It shares no memory with the
// request, in which the token stands.
func (g *Gate) recorded(r request, d decision, t *trail, at time.Time) *gatehousev1.Decision {
	out := published(r, d)
	out.Route, out.RequestId = strings.Clone(out.Route), strings.Clone(out.RequestId)
	out.Time = timestamppb.New(at)
	out.Method = strings.Clone(printable(r.method))
	path, whole := clean(withoutTokens(r.path), maxPath)
	whole = whole && path == r.path
	out.Path, out.PathAltered = path, !whole
	out.Status = statusSeen(d)
	out.Instance = g.instance
	if d.cause != nil {
		out.Cause, _ = clean(d.cause.Error(), 2*maxText)
	}
	if t.policy.restricted {
		out.Roles = rolesAsked(t.policy)
	}
	if t.raw != "" {
		out.Token = g.saying(t.raw, d)
	}
	if t.source != "" {
		out.Standing = standingRecord(t.credential, t.standing, t.source)
	}
	return out
}

// statusSeen is what a client sees of a refusal. What it sees of an allow is the
// upstream's to say.
func statusSeen(d decision) int32 {
	if d.outcome == allowed {
		return http.StatusOK
	}
	return int32(problemOf(d).Status)
}

// rolesAsked are the names in a policy, one of which may be empty.
func rolesAsked(p policy) []string {
	var names []string
	for name := range strings.SplitSeq(p.roles, ",") {
		name, _ = clean(strings.TrimSpace(name), maxText)
		if name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = []string{""} // asked for, and naming nobody
	}
	return names
}

// saying reads a token anew. The keys may be others by now than those that it was
// judged by; that is known of a token that was found good, and told of one that was
// not.
func (g *Gate) saying(raw string, d decision) *gatehousev1.Token {
	s, err := g.tokens.Read(raw)
	if err != nil {
		return &gatehousev1.Token{Profile: s.Claims, Malformed: err.Error(), IssuedBy: foreign(s.From)}
	}
	out := statementRecord(s)
	if place := g.tokens.Choose(s.Issuer, s.Algorithm).Locate(s.Algorithm, s.KeyID); place.Found {
		out.HeldAgainst = place.Key.ID()
	}
	out.Verified = verifiedBy(d)
	return out
}

// verifiedBy reports whether a decision on a token was taken after its signature
// was found good.
func verifiedBy(d decision) bool {
	switch {
	case d.outcome == allowed, !d.identity.User.IsZero():
		return true
	case d.problem == nil:
		return false
	default:
		return token.Authentic(d.problem)
	}
}

// foreign is the name of an issuer, but for our own.
func foreign(name string) string {
	if name == token.Own {
		return ""
	}
	return name
}

// scribe writes foreign texts down, and remembers whether any had to be changed.
type scribe struct{ altered bool }

func (w *scribe) text(text string) string {
	out, whole := clean(text, maxText)
	w.altered = w.altered || !whole
	return out
}

// notUUID stands for a text in the place of an id that is none. It is judged like
// the text itself, which may be anything, an email too.
const notUUID = "[not a UUID]"

func (*scribe) id(text string) string {
	if _, err := identity.ParseUserID(text); err != nil && text != "" {
		return notUUID
	}
	return text
}

func (w *scribe) optionalID(text *string) *string {
	if text == nil {
		return nil
	}
	out := w.id(*text)
	return &out
}

func (w *scribe) list(texts []string) []string {
	if len(texts) > maxList {
		texts, w.altered = texts[:maxList], true
	}
	var out []string
	for _, text := range texts {
		out = append(out, w.text(text))
	}
	return out
}

func (w *scribe) instant(at *time.Time) *timestamppb.Timestamp {
	if at == nil {
		return nil
	}
	out := timestamppb.New(*at)
	if !out.IsValid() { // before the year 1, which a token may say
		out, w.altered = timestamppb.New(time.Time{}), true
	}
	return out
}

func statementRecord(s token.Statement) *gatehousev1.Token {
	var w scribe
	out := &gatehousev1.Token{
		Profile:     s.Claims,
		IssuedBy:    foreign(s.From),
		Algorithm:   w.text(s.Algorithm),
		KeyId:       w.text(s.KeyID),
		Subject:     w.optionalID(s.Subject),
		Issuer:      w.text(s.Issuer),
		Audience:    w.list(s.Audience),
		HasAudience: s.HasAudience,
		IssuedAt:    w.instant(s.IssuedAt),
		NotBefore:   w.instant(s.NotBefore),
		ExpiresAt:   w.instant(s.ExpiresAt),
		SessionId:   w.optionalID(s.Session),
		CompanyId:   w.id(s.Company),
		Role:        w.text(s.Role),
		Roles:       w.list(s.Roles),
	}
	out.Altered = w.altered
	return out
}

// standingRecord leaves out the email, and of many companies those that the token
// does not act for.
func standingRecord(c identity.Credential, s identity.Standing, source string) *gatehousev1.Standing {
	var w scribe
	out := &gatehousev1.Standing{
		Source:           source,
		Exists:           s.Exists,
		Active:           s.Active,
		Suspended:        s.Suspended,
		TokensValidAfter: stamp(s.TokensValidAfter),
	}
	kept := s.Memberships
	if len(kept) > maxMemberships {
		out.MembershipsLeftOut = int32(len(kept) - maxMemberships)
		its := slices.IndexFunc(kept, func(m identity.Membership) bool { return m.Company == c.Company })
		if kept = slices.Clone(kept[:maxMemberships]); its >= maxMemberships {
			kept[maxMemberships-1] = s.Memberships[its]
		}
	}
	for _, m := range kept {
		out.Memberships = append(out.Memberships, &gatehousev1.Membership{
			CompanyId: m.Company.String(), Role: w.text(m.Role), Suspended: m.Suspended,
		})
	}
	if c.HasSession {
		out.Session = &gatehousev1.Session{
			Exists:    s.Session.Exists,
			Ended:     s.Session.Ended,
			ValidFrom: stamp(s.Session.ValidFrom),
			NotAfter:  stamp(s.Session.NotAfter),
		}
	}
	return out
}

// stamp is nil for a time that was never set.
func stamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	out := timestamppb.New(at)
	if !out.IsValid() { // the infinities of a database
		if at.Before(time.Unix(0, 0)) {
			return nil
		}
		return &timestamppb.Timestamp{Seconds: 253402300799}
	}
	return out
}

// tokenHere stands in the place of a token that somebody put into a path.
const tokenHere = "[token]"

// withoutTokens takes out of a path what looks like a token: no interface of ours has
// one there, and whoever puts it there does not mean it to be kept.
func withoutTokens(path string) string {
	if !strings.Contains(path, "eyJ") && !strings.Contains(path, "gatehouse_rt_") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if at := strings.Index(segment, "eyJ"); at >= 0 && strings.Count(segment[at:], ".") >= 2 || strings.Contains(segment, "gatehouse_rt_") {
			segments[i] = tokenHere
		}
	}
	return strings.Join(segments, "/")
}

// clean makes foreign text safe to stand in a log, on a terminal and in protobuf:
// valid, bounded and without anything that acts on a reader. whole reports that
// nothing was lost. What it returns shares no memory with text.
func clean(text string, limit int) (out string, whole bool) {
	whole = len(text) <= limit
	if !whole {
		text = text[:limit]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) { // not the half of a rune
			text = text[:len(text)-1]
		}
		if r, _ := utf8.DecodeLastRuneInString(text); r == utf8.RuneError {
			text = text[:max(0, len(text)-1)]
		}
	}
	changed := false
	mapped := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			changed = true
			return '_'
		}
		return r
	}, text)
	return strings.Clone(mapped), whole && !changed
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()/1000) / 1000 }
