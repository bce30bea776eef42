package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// RateLimit is a token bucket: it holds Burst and gains Requests in every Per.
// The zero value is no limit.
type RateLimit struct {
	Requests uint32
	Per      time.Duration // a second, a minute or an hour
	Burst    uint32        // at least Requests
}

// Off reports that there is no limit.
func (l RateLimit) Off() bool { return l.Requests == 0 }

var rateForm = regexp.MustCompile(`^([0-9]+)/([smh])(?:[ \t]+burst[ \t]+([0-9]+))?$`)

const maxRate = 1_000_000

func parseRateLimit(text string) (RateLimit, error) {
	if text == "off" {
		return RateLimit{}, nil
	}
	parts := rateForm.FindStringSubmatch(text)
	if parts == nil {
		return RateLimit{}, fmt.Errorf("%s is not a rate such as 10/s burst 30 (s, m or h), or off", quote(text))
	}
	number := whole[uint32](1, maxRate)
	requests, err := number(parts[1])
	if err != nil {
		return RateLimit{}, fmt.Errorf("the rate %w", err)
	}
	limit := RateLimit{Requests: requests, Burst: requests}
	switch parts[2] {
	case "s":
		limit.Per = time.Second
	case "m":
		limit.Per = time.Minute
	case "h":
		limit.Per = time.Hour
	}
	if parts[3] != "" {
		if limit.Burst, err = number(parts[3]); err != nil {
			return RateLimit{}, fmt.Errorf("the burst %w", err)
		}
	}
	if limit.Burst < limit.Requests {
		return RateLimit{}, errors.New("the burst is smaller than the rate, which could then never be reached")
	}
	return limit, nil
}

var quotaForm = regexp.MustCompile(`^([0-9]+)[ \t]+in[ \t]+(\S+)$`)

// maxQuota keeps what is remembered of one key small: a time for each.
const maxQuota = 1000

// parseQuota reads "30 in 10m".
func parseQuota(text string) (identity.Quota, error) {
	if text == "0" {
		return identity.Quota{}, nil
	}
	parts := quotaForm.FindStringSubmatch(text)
	if parts == nil {
		return identity.Quota{}, fmt.Errorf("%s is not a limit such as 30 in 10m, or 0", quote(text))
	}
	most, err := whole[int](1, maxQuota)(parts[1])
	if err != nil {
		return identity.Quota{}, fmt.Errorf("the number %w", err)
	}
	within, err := duration(time.Second, 8760*time.Hour)(parts[2])
	if err != nil {
		return identity.Quota{}, fmt.Errorf("the time %w", err)
	}
	return identity.Quota{Most: most, Within: within}, nil
}

// parseQuotas reads one or two of them.
func parseQuotas(text string) (quotas [2]identity.Quota, err error) {
	parts := strings.Split(text, ",")
	if len(parts) > len(quotas) {
		return quotas, errors.New("lists more than two limits")
	}
	for i, part := range parts {
		if quotas[i], err = parseQuota(strings.TrimSpace(part)); err != nil {
			return quotas, err
		}
	}
	return quotas, nil
}
