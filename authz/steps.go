package authz

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// The texts of an explanation. Each says what was held against what, and decides
// nothing: whether that passed is known by the time that it is told.

const (
	notLookedUp = "users are not looked up by these rules"
	unreadable  = "the token cannot be read"
)

func (x *examination) route() string {
	p := x.trail.policy
	var b strings.Builder
	method, _ := clean(x.request.method, maxName)
	path, _ := clean(x.request.path, maxPath)
	fmt.Fprintf(&b, "%s %s", orElse(method, "no method"), orElse(path, "no path"))
	if x.request.route != "" {
		fmt.Fprintf(&b, ", route %s", x.request.route)
	}
	if x.routed {
		b.WriteString(" by the route table")
	}
	fmt.Fprintf(&b, ": mode %s", x.decision.mode)
	switch asked := x.request.mode; {
	case asked == "":
		b.WriteString(", because none is named")
	case asked != x.decision.mode.String() && asked == open.String():
		b.WriteString(", because one that is open and asks for roles contradicts itself")
	case asked != x.decision.mode.String():
		fmt.Fprintf(&b, ", because %s is none that is known", quoted(asked))
	}
	if p.restricted {
		b.WriteString(", only for " + wanted(p))
	}
	return b.String()
}

func wanted(p policy) string {
	names := rolesAsked(p)
	if names[0] == "" {
		return "roles of which none is named"
	}
	for i, name := range names {
		names[i] = quoted(name)
	}
	return strings.Join(names, " or ")
}

func (x *examination) bearer() (string, bool) {
	values := x.request.authorization.all()
	switch len(values) {
	case 0:
		return "no Authorization header", true
	case 1:
	default:
		return "more than one Authorization header", true
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	switch {
	case x.trail.raw != "":
		return "one Authorization header, with a Bearer token of " + strconv.Itoa(len(x.trail.raw)) + " bytes", true
	case strings.Contains(values[0], ","):
		return "more than one Authorization header, as the comma in the value says", true
	case !strings.EqualFold(scheme, "bearer"):
		return "an Authorization header with another scheme than Bearer", true
	case strings.TrimLeft(rest, " ") == "":
		return "an Authorization header with an empty token", true
	}
	return "an Authorization header", true
}

func (x *examination) form() (string, bool) {
	switch {
	case x.malformed != "":
		return x.malformed, true
	case x.said == nil:
		return unreadable, true
	}
	alg := quoted(x.said.Algorithm)
	text := "header and payload can be read"
	if !x.issuer.Sole {
		text += "; " + x.choice()
	}
	switch accepted := x.issuer.Locate(x.said.Algorithm, x.said.KeyID).Accepted; {
	case accepted:
		return text + "; there are keys for alg " + alg, true
	case x.issuer.Foreign():
		return text + ", whose tokens do not have alg " + alg + ", but " + strings.Join(x.issuer.Algorithms(), " or "), true
	}
	return text + ", but no key of ours is for alg " + alg, true
}

// choice says whose the token was taken for, and why.
func (x *examination) choice() string {
	named := "no iss"
	if x.said.Issuer != "" {
		named = "iss " + quoted(x.said.Issuer)
	}
	switch {
	case x.issuer.Foreign():
		return named + " and alg " + quoted(x.said.Algorithm) + " are those of the issuer " + x.issuer.Name
	case x.said.Issuer == "":
		return "no iss, so taken for our own"
	case x.issuer.Known:
		return named + " is our own"
	}
	return named + " is no other issuer's, so taken for our own"
}

func (x *examination) signature() (string, bool) {
	if x.said == nil {
		return unreadable, true
	}
	place := x.issuer.Locate(x.said.Algorithm, x.said.KeyID)
	named, known := x.issuer.Named(x.said.KeyID)
	var b strings.Builder
	fmt.Fprintf(&b, "alg %s, ", quoted(x.said.Algorithm))
	if x.said.KeyID == "" {
		b.WriteString("no kid: ")
	} else {
		fmt.Fprintf(&b, "kid %s: ", quoted(x.said.KeyID))
	}
	switch {
	case place.Found && known && x.said.KeyID != "":
		fmt.Fprintf(&b, "found in %s as %s", x.origin(place.Key), place.Key.Algorithm())
	case place.Found && x.said.KeyID == "":
		fmt.Fprintf(&b, "held against %s, as %s", x.origin(place.Key), place.Key.Algorithm())
	case place.Found:
		fmt.Fprintf(&b, "no key of that name, so held against %s, as %s", x.origin(place.Key), place.Key.Algorithm())
	case known:
		fmt.Fprintf(&b, "found in %s, but as %s", x.origin(named), named.Algorithm())
	case place.MayCome:
		if x.issuer.Foreign() {
			b.WriteString("not known, nor found in the fetched key set of " + x.issuer.Name)
		} else {
			b.WriteString("not known, nor found in the key set of the other issuer")
		}
	default:
		b.WriteString("there is no key for it")
	}
	if place.Found {
		if verifiedBy(x.decision) {
			b.WriteString("; the signature matches")
		} else {
			b.WriteString("; the signature does not match")
		}
	}
	return b.String(), true
}

func (x *examination) origin(k token.Key) string {
	if x.issuer.Foreign() {
		return originOf(k) + " of " + x.issuer.Name
	}
	if k.Origin() == token.OriginFetched {
		return "the key set of the other issuer"
	}
	return originOf(k)
}

func originOf(k token.Key) string {
	switch k.Origin() {
	case token.OriginSecret:
		return "the shared secret"
	case token.OriginPEM:
		return "the PEM key"
	case token.OriginFetched:
		return "the fetched key set"
	default:
		return "the key set"
	}
}

func (x *examination) expiry() (string, bool) {
	if x.said == nil || x.said.ExpiresAt == nil {
		return "the token has no exp, which is judged below", false
	}
	return "exp " + x.when(*x.said.ExpiresAt) + x.leeway(), true
}

func (x *examination) notBefore() (string, bool) {
	if x.said == nil || x.said.NotBefore == nil && x.said.IssuedAt == nil {
		return "the token has neither nbf nor iat", false
	}
	var parts []string
	if x.said.NotBefore != nil {
		parts = append(parts, "nbf "+x.when(*x.said.NotBefore))
	}
	if x.said.IssuedAt != nil {
		parts = append(parts, "iat "+x.when(*x.said.IssuedAt))
	}
	return strings.Join(parts, "; ") + x.leeway(), true
}

func (x *examination) audience() (string, bool) {
	switch {
	case x.terms.Audience == "":
		return "no audience is configured", false
	case x.said == nil || !x.said.HasAudience:
		return "the token has no aud, which is judged below", false
	}
	return "aud " + list(x.said.Audience) + ", wanted " + quoted(x.terms.Audience), true
}

func (x *examination) iss() (string, bool) {
	switch {
	case x.issuer.Foreign() && x.terms.Issuer == "":
		return "tokens without iss are those of " + x.issuer.Name, true
	case x.terms.Issuer == "":
		return "no issuer is configured", false
	case x.said == nil || x.said.Issuer == "":
		return "no iss, wanted " + quoted(x.terms.Issuer), true
	}
	return "iss " + quoted(x.said.Issuer) + ", wanted " + quoted(x.terms.Issuer), true
}

func (x *examination) roleClaim() (string, bool) {
	switch {
	case x.issuer.Role == "" && x.issuer.Foreign():
		return "none is asked for of tokens of " + x.issuer.Name, false
	case x.issuer.Role == "":
		return "only tokens of the profile supabase have one", false
	case x.said == nil || x.said.Role == "":
		return "no role, wanted " + quoted(x.issuer.Role), true
	}
	return "role " + quoted(x.said.Role) + ", wanted " + quoted(x.issuer.Role), true
}

func (x *examination) required() (string, bool) {
	var names, missing []string
	add := func(name string, there bool) {
		names = append(names, name)
		if !there {
			missing = append(missing, name)
		}
	}
	if x.terms.Audience != "" {
		add("aud", x.said != nil && x.said.HasAudience)
	}
	add("exp", x.said != nil && x.said.ExpiresAt != nil)
	if len(missing) == 0 {
		return "has " + strings.Join(names, " and "), true
	}
	return "wanted " + strings.Join(names, " and ") + "; missing: " + strings.Join(missing, ", "), true
}

func (x *examination) subject() (string, bool) {
	if x.said == nil || x.said.Subject == nil {
		return "no sub", true
	}
	return "has sub", true
}

func (x *examination) userID() (string, bool) {
	if x.said == nil || x.said.Subject == nil {
		return "no sub", true
	}
	id, err := identity.ParseUserID(*x.said.Subject)
	if err != nil {
		return fmt.Sprintf("sub of %d bytes is no UUID of 36 characters with hyphens", len(*x.said.Subject)), true
	}
	return "sub " + id.String(), true
}

func (x *examination) companyID() (string, bool) {
	if x.said == nil || x.said.Company == "" {
		return "the token names no company", false
	}
	id, err := identity.ParseCompanyID(x.said.Company)
	if err != nil {
		return fmt.Sprintf("a company of %d bytes is no UUID of 36 characters with hyphens", len(x.said.Company)), true
	}
	return "company " + id.String(), true
}

func (x *examination) user() (string, bool) {
	user := x.trail.credential.User
	s := x.standing()
	switch {
	case user.IsZero():
		return "the nil UUID is nobody's", true
	case s == nil:
		return notLookedUp, false
	case !s.Exists:
		return "user " + user.String() + ": there is none, says " + x.witness(), true
	}
	return "user " + user.String() + " exists, says " + x.witness(), true
}

func (x *examination) active() (string, bool) {
	switch s := x.standing(); {
	case s == nil:
		return notLookedUp, false
	case !s.Active:
		return "the user is not active", true
	}
	return "the user is active", true
}

func (x *examination) revocation() (string, bool) {
	c, s := x.trail.credential, x.standing()
	var parts []string
	if s != nil {
		parts = append(parts, x.session(c, s))
	}
	if c.Issuer != nil && !c.Issuer.Until.IsZero() {
		parts = append(parts, "a token of "+c.Issuer.Name+", accepted until "+x.when(c.Issuer.Until))
	}
	if until := x.rules.legacyTokensUntil; !until.IsZero() && !c.KeyNamed && c.Issuer == nil {
		parts = append(parts, "a token without kid, accepted until "+x.when(until))
	}
	if len(parts) == 0 {
		return notLookedUp, false
	}
	return strings.Join(parts, "; "), true
}

func (x *examination) session(c identity.Credential, s *identity.Standing) string {
	mark := "no mark on the user's tokens"
	if !s.TokensValidAfter.IsZero() {
		mark = "tokens valid after " + x.when(s.TokensValidAfter)
	}
	if !c.HasSession {
		issued := "no iat"
		if !c.IssuedAt.IsZero() {
			issued = "iat " + x.when(c.IssuedAt)
		}
		return "no session; " + issued + "; " + mark
	}
	switch {
	case c.Session.IsZero():
		return "sid is no UUID, which is no session's"
	case !s.Session.Exists:
		return "session " + c.Session.String() + " does not exist"
	case s.Session.Ended:
		return "session " + c.Session.String() + " was ended"
	}
	return "session " + c.Session.String() + " from " + x.when(s.Session.ValidFrom) + " to " + x.when(s.Session.NotAfter) + "; " + mark
}

func (x *examination) company() (string, bool) {
	switch {
	case x.decision.mode != strict:
		return "only a strict route asks for one", false
	case x.trail.credential.Company.IsZero():
		return "the token acts for no company", true
	}
	return "the token acts for " + x.trail.credential.Company.String(), true
}

func (x *examination) membership() (string, bool) {
	s := x.standing()
	switch {
	case x.decision.mode != strict:
		return "only a strict route asks for it", false
	case s == nil:
		return notLookedUp, false
	}
	companies := make([]string, 0, len(s.Memberships))
	for i, m := range s.Memberships {
		if i == maxList {
			companies = append(companies, fmt.Sprintf("and %d more", len(s.Memberships)-maxList))
			break
		}
		role, _ := clean(m.Role, maxName)
		companies = append(companies, fmt.Sprintf("%s (%s)", m.Company, orElse(role, "no role")))
	}
	text := "companies of the user: " + orElse(strings.Join(companies, ", "), "none") + "; the token acts for " + x.trail.credential.Company.String()
	if x.rules.skipCompany {
		return "not held together by these rules: " + text, false
	}
	return text, true
}

func (x *examination) suspension() (string, bool) {
	s := x.standing()
	switch {
	case x.decision.mode != strict:
		return "only a strict route asks for it", false
	case s == nil:
		return notLookedUp, false
	case s.Suspended:
		return "company " + x.trail.credential.Company.String() + " is suspended", true
	}
	return "company " + x.trail.credential.Company.String() + " is not suspended", true
}

func (x *examination) role() (string, bool) {
	c, s := x.trail.credential, x.standing()
	if !x.trail.policy.restricted {
		return "the route asks for none", false
	}
	want := "wanted " + wanted(x.trail.policy)
	switch {
	case x.rules.tokenRoles:
		return "the token says " + list(c.Roles) + ", " + want, true
	case c.Company.IsZero():
		return "there is no role without a company, " + want, true
	case s == nil:
		return "no role is known, because " + notLookedUp + ", " + want, true
	case s.Suspended:
		return "there is no role in a suspended company, " + want, true
	}
	m, belongs := s.In(c.Company)
	if !belongs {
		return "no role in " + c.Company.String() + ", " + want, true
	}
	return quoted(m.Role) + " in " + c.Company.String() + ", " + want, true
}

func (x *examination) store() (string, bool) {
	switch {
	case x.decision.cause != nil && x.decision.outcome == failed:
		return x.cause(), true
	case x.trail.credential.User.IsZero():
		return "there is nobody to ask about", false
	case x.trail.source == "":
		return notLookedUp, false
	}
	return x.witness() + " answered", true
}

func (x *examination) fault() (string, bool) {
	if x.decision.outcome == failed {
		return x.cause(), true
	}
	return "none", true
}

func (x *examination) cause() string {
	if x.decision.cause == nil {
		return "no cause is known"
	}
	text, _ := clean(x.decision.cause.Error(), 2*maxText)
	return text
}

func (x *examination) witness() string {
	if x.trail.source == sourceMemory {
		return "memory"
	}
	return "the database"
}

func (x *examination) leeway() string { return ", leeway " + x.terms.Leeway.String() }

// when is an instant, and how far that is from the check.
func (x *examination) when(at time.Time) string {
	return at.UTC().Format(time.RFC3339Nano) + ", " + distance(at.Sub(x.at))
}

func distance(d time.Duration) string {
	if d == 0 {
		return "now"
	}
	ago := d < 0
	if ago {
		d = -d
	}
	if d < 0 { // the longest there is has no opposite
		d = 1<<63 - 1
	}
	text := "less than a second"
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		if n := int64(d / unit.size); n > 0 {
			text = strconv.FormatInt(n, 10) + " " + unit.name
			if n > 1 {
				text += "s"
			}
			break
		}
	}
	if ago {
		return text + " ago"
	}
	return "in " + text
}

// quoted shows foreign text.
func quoted(text string) string {
	text, whole := clean(text, maxText)
	if text = strconv.Quote(text); !whole {
		text += " (altered)"
	}
	return text
}

func list(texts []string) string {
	shown := make([]string, 0, min(len(texts), maxList))
	for i, text := range texts {
		if i == maxList {
			shown = append(shown, fmt.Sprintf("and %d more", len(texts)-maxList))
			break
		}
		shown = append(shown, quoted(text))
	}
	return "[" + strings.Join(shown, ", ") + "]"
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
