package identity

// Question asks what is true of a user, of one of its sessions and of a company
// that it acts for; a zero session or company is not asked about.
type Question struct {
	User    UserID
	Session SessionID
	Company CompanyID
}
