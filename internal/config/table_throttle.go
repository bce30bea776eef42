package config

import (
	"net/netip"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

func throttleRows() []row {
	const quota = " `N in DURATION`, or `0` for no limit."
	return []row{
		{
			name: "LOGIN_THROTTLE", fallback: "on", by: NeedLogin,
			meaning: "The limits below. `off` lifts all of them; for tests and load measurements, and warned about.",
			read: func(s *Settings, text string) error {
				value, err := oneOf("on", "off")(text)
				s.Throttle.Off = value == "off"
				return err
			},
		},
		{
			name: "LOGIN_SOURCE_RATE_LIMIT", fallback: "10/m burst 20", by: NeedLogin,
			meaning: "Attempts to log in from one source (an IPv4 address or an IPv6 /64), right or wrong: `N/s`, `N/m` or `N/h`, then `burst M` (N if left out); or `0`.",
			read: func(s *Settings, text string) error {
				if text == "0" {
					text = "off"
				}
				limit, err := parseRateLimit(text)
				if err == nil && !limit.Off() {
					s.Throttle.Login.SourceBurst = int(limit.Burst)
					s.Throttle.Login.SourceEvery = limit.Per / time.Duration(limit.Requests)
				}
				return err
			},
		},
		{
			name: "LOGIN_SOURCE_FAILURES", fallback: "30 in 10m", by: NeedLogin,
			meaning: "Failed logins of one source." + quota,
			read:    into(parseQuota, func(s *Settings) *identity.Quota { return &s.Throttle.Login.SourceFailures }),
		},
		{
			name: "LOGIN_WAIT_AFTER", fallback: "6", by: NeedLogin,
			meaning: "The failure of one source with one address after which it has to wait, 1 to 1000; each further one doubles the wait. `0`: it never has to.",
			read:    into(whole[int](0, 1000), func(s *Settings) *int { return &s.Throttle.Login.FirstWait }),
		},
		{
			name: "LOGIN_WAIT", fallback: "1s", by: NeedLogin,
			meaning: "The first wait, `100ms` to `24h`.",
			read:    into(duration(100*time.Millisecond, 24*time.Hour), func(s *Settings) *time.Duration { return &s.Throttle.Login.Wait }),
		},
		{
			name: "LOGIN_WAIT_MAX", fallback: "5m", by: NeedLogin,
			meaning: "The longest wait, `1s` to `24h`. Attempts during a wait are refused, not counted, and do not prolong it.",
			read:    into(duration(time.Second, 24*time.Hour), func(s *Settings) *time.Duration { return &s.Throttle.Login.LongestWait }),
		},
		{
			name: "LOGIN_WAIT_FORGET", fallback: "15m", by: NeedLogin,
			meaning: "How long without an attempt until all of that is forgotten, `1s` to `720h`. A successful login forgets it too.",
			read:    into(duration(time.Second, 720*time.Hour), func(s *Settings) *time.Duration { return &s.Throttle.Login.Forget }),
		},
		{
			name: "LOGIN_PARALLEL", fallback: "10", by: NeedLogin,
			meaning: "Attempts of one source with one address that are judged at the same time, 1 to 1000; one, once it has had to wait. `0`: no limit.",
			read:    into(whole[int](0, 1000), func(s *Settings) *int { return &s.Throttle.Login.Parallel }),
		},
		{
			name: "LOGIN_ACCOUNT_FAILURES", fallback: "100 in 24h", by: NeedLogin,
			meaning: "Failed logins with one address from all sources together that are not familiar. Those are then refused; familiar ones never are by this limit." + quota,
			read:    into(parseQuota, func(s *Settings) *identity.Quota { return &s.Throttle.Login.AccountFailures }),
		},
		{
			name: "LOGIN_FAMILIAR_FOR", fallback: "720h", by: NeedLogin,
			meaning: "How long a network (an IPv4 /24 or an IPv6 /56) is familiar after a successful login from it, `1h` to `8760h`.",
			read:    into(duration(time.Hour, 8760*time.Hour), func(s *Settings) *time.Duration { return &s.Throttle.Login.FamiliarFor }),
		},
		{
			name: "LOGIN_FAMILIAR_NETWORKS", fallback: "20", by: NeedLogin,
			meaning: "How many such networks are kept of a user, 1 to 1000; the latest ones. `0`: no network is familiar.",
			read:    into(whole[int](0, 1000), func(s *Settings) *int { return &s.Throttle.Login.FamiliarMost }),
		},
		{
			name: "USER_RATE_LIMIT", fallback: "60 in 1m", by: NeedLogin,
			meaning: "Calls of ensure-company, logout, password change and those about invitations together, of one user." + quota,
			read:    into(parseQuota, func(s *Settings) *identity.Quota { return &s.Throttle.User }),
		},
		{
			name: "REGISTER_SOURCE_LIMIT", fallback: "5 in 1h, 20 in 24h", by: NeedLogin,
			meaning: "Registrations from one source. One or two of" + quota,
			read:    into(parseQuotas, func(s *Settings) *[2]identity.Quota { return &s.Throttle.RegisterSource }),
		},
		{
			name: "REGISTER_LIMIT", fallback: "200 in 1h", by: NeedLogin,
			meaning: "Registrations of everybody together." + quota,
			read:    into(parseQuota, func(s *Settings) *identity.Quota { return &s.Throttle.Register }),
		},
		{
			name: "TRUSTED_PROXIES", fallback: "127.0.0.0/8,::1/128", by: NeedLogin,
			meaning: "Comma-separated CIDRs whose `X-Forwarded-For` the login service believes, counted from the right.",
			read:    into(prefixes, func(s *Settings) *[]netip.Prefix { return &s.TrustedProxies }),
		},
	}
}
