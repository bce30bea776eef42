package login

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
)

const openapiPath = "/openapi.json"

// description is the HTTP interface in OpenAPI 3.1, written by hand. Every answer
// that the tests of this package see is held against it, so that an endpoint cannot
// change without it; an operationId is the name of the route.
//
//go:embed openapi.json
var description string

// openapi is GET /openapi.json. It is the same for everybody and holds no setting.
// Unlike the set of keys it may not be kept: nobody fetches it often, and after an
// upgrade an old one would be wrong.
func (s *Service) openapi(context.Context, *exchange) (answer, error) {
	return answer{status: http.StatusOK, result: "ok", body: json.RawMessage(description)}, nil
}
