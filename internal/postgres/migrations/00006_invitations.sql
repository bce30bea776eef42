-- For the list of a company's invitations, and for finding those whose time is
-- over.

-- +goose Up

CREATE INDEX company_invitations_company_idx ON company_invitations (company_id, created_at);
CREATE INDEX company_invitations_due_idx ON company_invitations (expires_at)
  WHERE accepted_at IS NULL AND revoked_at IS NULL;
