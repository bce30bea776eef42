package config

import (
	"errors"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

const escapeHint = `; characters such as / ? # @ % in a password must be percent-encoded, or given by GATEWAY_POSTGRES_PASSWORD`

// databaseURL checks what can be checked without a database. Its errors never
// show the text.
func databaseURL(text string) (Secret, error) {
	text = strings.TrimSpace(text)
	u, err := url.Parse(text)
	if err != nil || !isPrintable(text) {
		return Secret{}, errors.New("is not a URL" + escapeHint)
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case u.Scheme != "postgres" && u.Scheme != "postgresql", u.Opaque != "":
		return Secret{}, errors.New("does not begin with postgres:// or postgresql://")
	case err != nil || !plainParameters(query):
		return Secret{}, errors.New("has a query that is not name=value&name=value" + escapeHint)
	case u.Fragment != "" || strings.Contains(text, "#"):
		return Secret{}, errors.New("has a fragment" + escapeHint)
	case strings.ContainsAny(strings.TrimPrefix(u.Path, "/"), "/@") || strings.Contains(u.RawQuery, "@"):
		// The tail of a password with a raw / or ? in it, which would be shown as
		// if it were no secret.
		return Secret{}, errors.New("has a / or @ after the host" + escapeHint)
	case u.Host == "" && query.Get("host") == "":
		return Secret{}, errors.New("names no host")
	case !databaseHosts(u.Host):
		return Secret{}, errors.New("has a wrong host or port" + escapeHint)
	case query.Has("sslmode") && !slices.Contains(sslModes(), query.Get("sslmode")):
		return Secret{}, errors.New("has an sslmode that is not one of " + strings.Join(sslModes(), ", "))
	}
	return NewSecret(text), nil
}

// plainParameters keeps out the tail of a password with a "?" in it.
func plainParameters(query url.Values) bool {
	for name, values := range query {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" || len(values) != 1 || values[0] == "" {
			return false
		}
	}
	return true
}

// databaseHosts takes libpq's comma-separated list of hosts with ports.
func databaseHosts(hosts string) bool {
	if hosts == "" {
		return true
	}
	for _, entry := range strings.Split(hosts, ",") {
		host, portText, err := net.SplitHostPort(entry)
		if err != nil {
			host, portText = strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"), "5432"
		}
		if _, err := port(portText); err != nil || !isHost(host) {
			return false
		}
	}
	return true
}

func databaseHost(text string) (string, error) {
	if path.IsAbs(text) && isPrintable(text) {
		return path.Clean(text), nil
	}
	if !isHost(text) {
		return "", errors.New(quote(text) + " is not a host name, an IP address or the directory of a unix socket; the port goes into GATEWAY_POSTGRES_PORT")
	}
	return text, nil
}

// databaseName keeps out a slash at the start, which no driver can tell from
// the one before the name.
func databaseName(text string) (string, error) {
	if strings.HasPrefix(text, "/") {
		return "", errors.New("begins with a slash")
	}
	return printable(63)(text) // NAMEDATALEN - 1
}

// assemble makes one URL of the POSTGRES_ settings.
func (d *Database) assemble() {
	u := url.URL{Scheme: "postgres", User: url.User(d.user), Path: "/" + d.name}
	if !d.password.IsZero() {
		u.User = url.UserPassword(d.user, d.password.Reveal())
	}
	query := url.Values{"sslmode": {d.sslMode}}
	if path.IsAbs(d.server) {
		query.Set("host", d.server)
		query.Set("port", strconv.Itoa(int(d.port)))
	} else {
		u.Host = net.JoinHostPort(d.server, strconv.Itoa(int(d.port)))
	}
	u.RawQuery = query.Encode()
	d.URL = NewSecret(u.String())
}

// plainDatabaseParameter reports that the value of this parameter of libpq or
// pgx is no secret. All others are masked: a list of secrets would one day lack
// one.
func plainDatabaseParameter(name string) bool {
	switch name {
	case "host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni",
		"sslnegotiation", "application_name", "connect_timeout", "target_session_attrs", "channel_binding",
		"search_path", "timezone", "client_encoding", "passfile", "service", "servicefile",
		"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime",
		"pool_max_conn_lifetime_jitter", "pool_max_conn_idle_time", "pool_health_check_period",
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity",
		"statement_timeout", "lock_timeout", "keepalives", "keepalives_idle", "min_protocol_version", "max_protocol_version":
		return true
	}
	return false
}

// maskDatabaseURL is the URL for a log: the password and every parameter that
// is not known to be harmless are gone. A text that is no URL is gone whole.
func maskDatabaseURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" && u.Path == "" && u.RawQuery == "" {
		return redacted
	}
	var b strings.Builder
	b.WriteString(u.Scheme + "://")
	if u.User != nil {
		b.WriteString(url.User(u.User.Username()).String())
		if _, has := u.User.Password(); has {
			b.WriteString(":" + redacted)
		}
		b.WriteString("@")
	}
	b.WriteString(u.Host + u.EscapedPath())
	query := u.Query()
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	separator := "?"
	for _, name := range names {
		b.WriteString(separator)
		separator = "&"
		if plainDatabaseParameter(name) {
			b.WriteString(name + "=" + url.QueryEscape(query.Get(name)))
		} else {
			b.WriteString(url.QueryEscape(name) + "=" + redacted)
		}
	}
	return b.String()
}
