package login

import (
	"context"
	"net/http"
)

// root is GET /.
func (s *Service) root(context.Context, *exchange) (answer, error) {
	return answer{status: http.StatusOK, result: "ok", body: map[string]string{"message": s.with.ProjectName + " is running!"}}, nil
}
