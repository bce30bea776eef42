package config

import (
	"errors"
	"fmt"
	"regexp"
	"time"
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
