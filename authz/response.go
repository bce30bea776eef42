package authz

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atenex/gatehouse/internal/problem"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// The headers that tell an upstream who is asking, and the one by which Envoy's
// router bounds an exchange and which it keeps to itself. Envoy's configuration
// lets us touch these and no other (decoder_header_mutation_rules), in sets and
// removals alike.
const (
	headerUser    = "x-user-id"
	headerCompany = "x-company-id"
	headerEmail   = "x-user-email"
	headerLasts   = "x-envoy-upstream-stream-duration-ms"
)

// maxEmail bounds the one header value that people choose themselves: 64
// characters, an at sign and a domain of 255 (RFC 5321 section 4.5.3.1).
const maxEmail = 320

// answer is a message for Envoy together with how it was meant.
type answer struct {
	response *authv3.CheckResponse
	allowing bool // set by allow alone
}

// answerTo builds the one of the three answers that fits the decision.
func answerTo(r request, d decision) answer {
	switch d.outcome {
	case allowed:
		return allow(r, d)
	case denied:
		return deny(r, d)
	default:
		return fail(r, d)
	}
}

// allow is the only answer with status OK.
func allow(r request, d decision) answer {
	var values [3]string // in the order of the names below
	if !d.anonymous {
		values[0] = d.identity.User.String()
		if !d.identity.Company.IsZero() {
			values[1] = d.identity.Company.String()
		}
		if sendable(d.identity.Email) {
			values[2] = d.identity.Email
		}
	}
	ok := &authv3.OkHttpResponse{}
	for i, name := range [...]string{headerUser, headerCompany, headerEmail} {
		// Never an empty value, which some Envoys forward; never a name in both
		// lists, because removals are carried out last.
		if values[i] == "" {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		} else {
			ok.Headers = append(ok.Headers, set(name, values[i]))
		}
	}
	if d.lasts > 0 {
		ok.Headers = append(ok.Headers, set(headerLasts, string(appendMilliseconds(nil, d.lasts))))
	}
	return answer{allowing: true, response: &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(published(r, d)),
	}}
}

// appendMilliseconds writes a bound, never as 0, which is none.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, max(d.Milliseconds(), 1), 10)
}

// deny says no.
func deny(r request, d decision) answer {
	return answer{response: &authv3.CheckResponse{
		Status:          statusOf(d),
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: refusal(d)},
		DynamicMetadata: metadata(published(r, d)),
	}}
}

// fail says that there is no answer. Envoy counts it as an error and not as a
// denial, and obeys failure_mode_allow, which the shipped configuration leaves
// off.
func fail(r request, d decision) answer {
	return answer{response: &authv3.CheckResponse{
		Status:          statusOf(d),
		HttpResponse:    &authv3.CheckResponse_ErrorResponse{ErrorResponse: refusal(d)},
		DynamicMetadata: metadata(published(r, d)),
	}}
}

// seal is the last guard. In ext_authz the status alone decides, and a message
// without one is an allow (seen on the real Envoy, with a denied_response
// inside too); so only what allow built may leave with status OK, and nothing
// else may leave in any shape that could be taken for it.
func seal(a answer) (*authv3.CheckResponse, error) {
	says := a.response.GetStatus().GetCode() == int32(codes.OK) // nil reads as OK here, as it does in Envoy
	marked := a.response.GetDynamicMetadata().GetFields()["outcome"].GetStringValue() == allowed.String()
	filled := a.response.GetOkResponse() != nil
	if a.allowing {
		if says && marked && filled {
			return a.response, nil
		}
		return nil, errors.New("an allow that does not say so")
	}
	if says || marked || filled || a.response.GetDeniedResponse() == nil && a.response.GetErrorResponse() == nil {
		return nil, errors.New("a refusal that could be taken for an allow")
	}
	return a.response, nil
}

// encodeAnswer is the ordinary path from a decision to the bytes of an answer.
// fast_response.go writes most of them, and must write them alike.
func encodeAnswer(into []byte, r request, d decision) ([]byte, error) {
	sealed, err := seal(answerTo(r, d))
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(into, sealed)
}

// faulty is the answer when answering itself failed. Were that to fail too, there
// is none.
func faulty(into []byte, r request, d decision) []byte {
	d.outcome, d.problem = failed, problem.Internal
	out, err := encodeAnswer(into, r, d)
	if err != nil {
		return nil
	}
	return out
}

// problemOf is total: a refusal without a problem is an internal fault.
func problemOf(d decision) *problem.Problem {
	if d.problem == nil {
		return problem.Internal
	}
	return d.problem
}

func statusOf(d decision) *rpcstatus.Status {
	p := problemOf(d)
	code := codes.PermissionDenied
	switch p.Status {
	case http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusServiceUnavailable:
		code = codes.Unavailable
	case http.StatusInternalServerError:
		code = codes.Internal
	}
	return &rpcstatus.Status{Code: int32(code), Message: p.Reason}
}

func refusal(d decision) *authv3.DeniedHttpResponse {
	p := problemOf(d)
	out := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(p.Status)},
		Headers: []*corev3.HeaderValueOption{set("content-type", "application/json")},
		Body:    string(p.Body()),
	}
	if p.Challenge != "" {
		out.Headers = append(out.Headers, set("www-authenticate", p.Challenge))
	}
	if p.RetryAfter > 0 {
		out.Headers = append(out.Headers, set("retry-after", strconv.Itoa(p.RetryAfter)))
	}
	return out
}

// set overwrites. Both spellings of that are given: what an unset append means
// has differed between Envoy versions (envoy#42878, envoy#43442), and with
// append a client's own x-user-id would stay beside ours.
func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		Append:       wrapperspb.Bool(false), //nolint:staticcheck // deprecated, and still what some versions read
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// sendable reports whether an email can stand in a header as it is. Envoy
// passes raw UTF-8 on, which most upstreams would read as Latin-1; spaces at the
// ends would be trimmed on the way.
func sendable(email string) bool {
	if email == "" || len(email) > maxEmail || email[0] == ' ' || email[len(email)-1] == ' ' {
		return false
	}
	for i := range len(email) {
		if c := email[i]; c != ' ' && !visible(c) {
			return false
		}
	}
	return true
}

// published is the decision in the words of our own contract (proto), as far as
// Envoy is told; record.go has the rest.
func published(r request, d decision) *gatehousev1.Decision {
	out := &gatehousev1.Decision{
		Outcome:   d.outcome.published(),
		Reason:    d.reason(),
		Route:     r.route,
		Mode:      d.mode.String(),
		RequestId: r.id,
	}
	if !d.identity.User.IsZero() {
		out.UserId = d.identity.User.String()
	}
	if !d.identity.Company.IsZero() {
		out.CompanyId = d.identity.Company.String()
	}
	return out
}

// metadata is a Decision as Envoy's dynamic metadata: the fields by their proto
// names, those that do not apply left out, the outcome as one word. What Envoy knows
// itself (route, mode, request id) is left out too: each field costs it more than
// it costs us, on every request.
func metadata(d *gatehousev1.Decision) *structpb.Struct {
	fields := make(map[string]*structpb.Value, 4)
	put := func(name, value string) {
		if value != "" {
			fields[name] = structpb.NewStringValue(value)
		}
	}
	put("outcome", word(d.GetOutcome()))
	put("reason", d.GetReason())
	put("user_id", d.GetUserId())
	put("company_id", d.GetCompanyId())
	return &structpb.Struct{Fields: fields}
}

func (o outcome) published() gatehousev1.Outcome {
	switch o {
	case allowed:
		return gatehousev1.Outcome_OUTCOME_ALLOW
	case denied:
		return gatehousev1.Outcome_OUTCOME_DENY
	default:
		return gatehousev1.Outcome_OUTCOME_ERROR
	}
}

func word(o gatehousev1.Outcome) string {
	switch o {
	case gatehousev1.Outcome_OUTCOME_ALLOW:
		return allowed.String()
	case gatehousev1.Outcome_OUTCOME_DENY:
		return denied.String()
	default:
		return failed.String()
	}
}
