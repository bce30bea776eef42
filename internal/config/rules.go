package config

import (
	"net/netip"
	"strings"
)

// apply works out the defaults that depend on other settings, then judges the
// settings together.
func apply(s *Settings, texts map[string]string, need Need, r *report) {
	applySecret(s, texts, r)
	applyProfile(s)
	applyKeys(s, need, r)
	applyChecks(s, r)
	applyDatabase(s, r)
	applyRegistration(s, texts, need, r)
	applyMail(s, need, r)
	applyTLS(s, r)
	warnings(s, need, r)
}

const (
	placeholderSecret = "YOUR_DEFAULT_JWT_SECRET_KEY_CHANGE_ME_IN_ENV_OR_SECRET"
	minSecret         = 32 // bytes; RFC 7518 section 3.2 for HS256
)

func applySecret(s *Settings, texts map[string]string, r *report) {
	text := s.Tokens.Secret.Reveal()
	allowShort, _ := boolean(texts["JWT_ALLOW_SHORT_SECRET"])
	switch trimmed := strings.TrimSpace(text); {
	case text == "":
		return
	case trimmed == "":
		r.fault("JWT_SECRET", "is blank")
	case strings.EqualFold(trimmed, placeholderSecret):
		r.fault("JWT_SECRET", "is the placeholder of the example files, which everybody knows; make one with: openssl rand -base64 48")
	case len(text) >= minSecret:
	case allowShort:
		r.warn("JWT_SECRET", "is shorter than 32 bytes, which GATEWAY_JWT_ALLOW_SHORT_SECRET allows; it can be guessed from any token")
	default:
		r.fault("JWT_SECRET", "is shorter than 32 bytes (GATEWAY_JWT_ALLOW_SHORT_SECRET=true accepts it, with a warning)")
	}
}

func applyProfile(s *Settings) {
	if !s.given["TOKEN_PROFILE"] {
		s.Tokens.Profile = ProfileNative
		if s.given["SUPABASE_URL"] {
			s.Tokens.Profile = ProfileSupabase
		}
	}
	if s.Tokens.Profile == ProfileSupabase && !s.given["JWT_AUDIENCE"] {
		s.Tokens.Audience = "authenticated"
	}
}

// applyKeySets checks what stands beside a JWK set, whose keys name their own
// algorithms.
func applyKeySets(s *Settings, need Need, r *report) {
	set := "JWT_JWKS_URL"
	if s.given["JWT_KEYS"] {
		set = "JWT_KEYS"
	}
	for _, name := range []string{"JWT_PUBLIC_KEY", "JWT_PRIVATE_KEY"} {
		if s.given[name] && !r.bad[name] {
			r.fault(name, "is set together with "+fullName(set)+"; a key pair goes into GATEWAY_JWT_KEYS then")
		}
	}
	if s.given["JWT_KEYS"] || r.bad["JWT_ALGORITHM"] || s.given["JWT_SECRET"] || r.bad["JWT_SECRET"] {
		if set == "JWT_JWKS_URL" && need&signing != 0 && !strings.HasPrefix(s.Tokens.Algorithm, "HS") && !r.bad["JWT_ALGORITHM"] {
			r.warn("JWT_ALGORITHM", "is "+s.Tokens.Algorithm+", for which there is no key that signs: new tokens are HS256, by GATEWAY_JWT_SECRET")
		}
		return
	}
	switch {
	case need&signing != 0:
		r.fault("JWT_SECRET", "is not set, nor is GATEWAY_JWT_KEYS; the keys of GATEWAY_JWT_JWKS_URL verify only, and signing needs one of them")
	case need&verifying != 0 && s.given["JWT_ALGORITHM"] && strings.HasPrefix(s.Tokens.Algorithm, "HS"):
		r.fault("JWT_SECRET", "is not set; "+s.Tokens.Algorithm+" needs it")
	}
}

// applyKeys checks that the key material fits the algorithm.
func applyKeys(s *Settings, need Need, r *report) {
	if u := s.Tokens.JWKSURL; u != nil && u.Scheme == "http" && !isLoopback(u.Hostname()) && need&verifying != 0 {
		r.warn("JWT_JWKS_URL", "is http://: whoever stands between can put keys of their own in the place of the issuer's")
	}
	if s.given["JWT_KEYS"] || s.given["JWT_JWKS_URL"] {
		applyKeySets(s, need, r)
		return
	}
	public, private := s.given["JWT_PUBLIC_KEY"], s.given["JWT_PRIVATE_KEY"]
	algorithm := s.Tokens.Algorithm
	if r.bad["JWT_ALGORITHM"] {
		if public || private {
			return
		}
		algorithm = "HS*" // the default's family; a missing secret is worth reporting at once
	}
	if strings.HasPrefix(algorithm, "HS") {
		if need&verifying != 0 && !s.given["JWT_SECRET"] && !r.bad["JWT_SECRET"] {
			r.fault("JWT_SECRET", "is not set; "+algorithm+" needs it")
		}
		for _, name := range []string{"JWT_PUBLIC_KEY", "JWT_PRIVATE_KEY"} {
			if s.given[name] && !r.bad[name] {
				r.fault(name, "is set, but GATEWAY_JWT_ALGORITHM is "+algorithm+", which does not use it; set the key's algorithm")
			}
		}
		return
	}
	switch {
	case need&signing != 0 && !private && !r.bad["JWT_PRIVATE_KEY"]:
		r.fault("JWT_PRIVATE_KEY", "is not set; signing with "+algorithm+" needs it, or GATEWAY_JWT_KEYS")
	case need&verifying != 0 && !public && !private && !r.bad["JWT_PUBLIC_KEY"] && !r.bad["JWT_PRIVATE_KEY"]:
		r.fault("JWT_PUBLIC_KEY", "is not set, nor is GATEWAY_JWT_PRIVATE_KEY; "+algorithm+" needs one of them, or GATEWAY_JWT_KEYS or GATEWAY_JWT_JWKS_URL")
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func applyChecks(s *Settings, r *report) {
	off := s.Checks.User == CheckOff
	if off && s.Tokens.Profile != ProfileSupabase && !r.bad["TOKEN_PROFILE"] {
		r.fault("USER_CHECK", "is off, which is possible only with GATEWAY_TOKEN_PROFILE=supabase")
	}
	if s.given["COMPANY_CHECK"] {
		if off && s.Checks.Company == CheckRequired {
			r.fault("COMPANY_CHECK", "is required, but GATEWAY_USER_CHECK is off, with which no company is looked up")
		}
		return
	}
	s.Checks.Company = CheckRequired
	if off || s.Tokens.Profile == ProfileSupabase {
		s.Checks.Company = CheckOff
	}
}

func applyDatabase(s *Settings, r *report) {
	if s.Database.PoolMin > s.Database.PoolMax && !r.bad["POSTGRES_POOL_MIN"] && !r.bad["POSTGRES_POOL_MAX"] {
		r.fault("POSTGRES_POOL_MIN", "is greater than GATEWAY_POSTGRES_POOL_MAX")
	}
	if !s.given["DATABASE_URL"] {
		s.Database.assemble()
		return
	}
	for _, name := range databaseParts() {
		if s.given[name] {
			r.warn(name, "has no effect, because GATEWAY_DATABASE_URL is set")
		}
	}
}

func applyRegistration(s *Settings, texts map[string]string, need Need, r *report) {
	if s.Registration.At == RegistrationOff || r.bad["REGISTRATION"] {
		return
	}
	if accepted, _ := boolean(texts["I_ACCEPT_OPEN_TENANCY"]); s.Companies.JoinAny && !accepted {
		r.fault("COMPANY_JOIN_POLICY", "is any while GATEWAY_REGISTRATION is on: every stranger could enter every company whose id it knows (GATEWAY_I_ACCEPT_OPEN_TENANCY=true accepts that)")
	}
	if s.Registration.At != RegistrationSupabase || need&NeedLogin == 0 {
		return
	}
	for _, name := range []string{"SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"} {
		if !s.given[name] && !r.bad[name] {
			r.fault(name, "is not set; GATEWAY_REGISTRATION=supabase needs it")
		}
	}
}

// databaseParts are the settings that DATABASE_URL replaces.
func databaseParts() []string {
	return []string{"POSTGRES_SERVER", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_SSLMODE"}
}

// warnings speaks of settings that are right and dangerous, to those who start
// the part that they endanger.
func warnings(s *Settings, need Need, r *report) {
	if need&verifying != 0 {
		warnEdges("JWT_SECRET", s.Tokens.Secret, r)
	}
	if need&storing != 0 {
		warnEdges("POSTGRES_PASSWORD", s.Database.password, r)
	}
	if need&NeedLogin != 0 {
		warnEdges("SUPABASE_SERVICE_ROLE_KEY", s.Supabase.ServiceRoleKey, r)
	}
	if need&services == 0 {
		return
	}
	if !s.given["LEGACY_TOKENS_UNTIL"] {
		r.warn("LEGACY_TOKENS_UNTIL", "is not set: tokens that name no key (no kid) are accepted without end")
	}
	if s.Checks.User == CheckOff {
		r.warn("USER_CHECK", "is off: deleted, disabled and revoked users keep their access until their tokens expire")
	}
	if need&NeedLogin == 0 {
		return
	}
	if s.Companies.JoinAny {
		r.warn("COMPANY_JOIN_POLICY", "is any: every user can move itself into every company whose id it knows; for migration only")
	}
	if s.Throttle.Off {
		r.warn("LOGIN_THROTTLE", "is off: guessing passwords is not slowed down, and the limits on register and password change are lifted too; only for tests and load measurements")
	}
	for _, p := range s.TrustedProxies {
		if p.Bits() == 0 {
			r.warn("TRUSTED_PROXIES", "trusts every address: a client can name any source it likes in X-Forwarded-For")
			break
		}
	}
}

// warnEdges speaks of what a careless echo or a file from Windows leaves on a
// secret, and nobody sees in a masked log.
func warnEdges(name string, secret Secret, r *report) {
	text := secret.Reveal()
	if text != strings.TrimSpace(text) {
		r.warn(name, "begins or ends with white space, which is part of it")
	}
	if strings.HasPrefix(text, "\xef\xbb\xbf") || strings.HasPrefix(text, "\xff\xfe") {
		r.warn(name, "begins with a byte order mark, which is part of it; save the file as plain UTF-8")
	}
}
