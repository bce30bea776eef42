package routes

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Rate is a token bucket: Requests every Per, and up to Burst at once.
type Rate struct {
	Requests uint32
	Per      time.Duration
	Burst    uint32
}

// minRatePeriod is the shortest fill interval that Envoy accepts.
const minRatePeriod = 50 * time.Millisecond

// Off reports that there is no limit.
func (r Rate) Off() bool { return r == Rate{} }

// Validate reports what Envoy would not take.
func (r Rate) Validate() error {
	if r.Off() {
		return nil
	}
	if r.Requests == 0 || r.Burst == 0 || r.Per < minRatePeriod {
		return fmt.Errorf("%d per %v, burst %d: want at least 1 request, burst 1 and %v", r.Requests, r.Per, r.Burst, minRatePeriod)
	}
	return nil
}

// rateText is how the settings write a rate too.
var rateText = regexp.MustCompile(`^([0-9]{1,7})/([smh])(?: burst ([0-9]{1,7}))?$`)

func parseRate(text string) (Rate, bool) {
	m := rateText.FindStringSubmatch(text)
	if m == nil {
		return Rate{}, false
	}
	number := func(digits string) uint32 {
		n, _ := strconv.ParseUint(digits, 10, 32) // at most seven digits
		return uint32(n)
	}
	rate := Rate{Requests: number(m[1]), Per: time.Second}
	switch m[2] {
	case "m":
		rate.Per = time.Minute
	case "h":
		rate.Per = time.Hour
	}
	rate.Burst = rate.Requests
	if m[3] != "" {
		rate.Burst = number(m[3])
	}
	return rate, rate.Requests > 0 && rate.Burst >= rate.Requests
}
