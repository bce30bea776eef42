package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client speaks to the API server.
type Client struct {
	server, token string
	http          *http.Client
}

func newClient(server, token string) *Client {
	return &Client{server: server, token: token, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // a server of our own on loopback, with a certificate of its own
	}}
}

// Refusal is an answer of the server that is no success.
type Refusal struct {
	Status  int
	Message string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Message) }

// Get reads a path.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	body, _, err := c.do(ctx, http.MethodGet, path, nil)
	return body, err
}

// Delete removes what stands at a path.
func (c *Client) Delete(ctx context.Context, path string) error {
	_, _, err := c.do(ctx, http.MethodDelete, path, nil)
	return err
}

// Create makes an object, given as JSON, in a namespace (of its own, if it names one).
// A field that the server does not know is an error. With dryRun nothing is kept.
// The warnings are the server's words on an object that it took.
func (c *Client) Create(ctx context.Context, namespace string, object []byte, dryRun bool) (warnings []string, err error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(object, &head); err != nil {
		return nil, err
	}
	path, namespaced, err := c.collection(ctx, head.APIVersion, head.Kind)
	if err != nil {
		return nil, err
	}
	if head.Metadata.Namespace != "" {
		namespace = head.Metadata.Namespace
	}
	root, resource := path[:strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/")+1:]
	if namespaced {
		root += "/namespaces/" + url.PathEscape(namespace)
	}
	query := url.Values{"fieldValidation": {"Strict"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	_, warnings, err = c.do(ctx, http.MethodPost, root+"/"+resource+"?"+query.Encode(), object)
	return warnings, err
}

// collection finds where objects of a kind are.
func (c *Client) collection(ctx context.Context, apiVersion, kind string) (path string, namespaced bool, err error) {
	root := "/apis/" + apiVersion
	if !strings.Contains(apiVersion, "/") {
		root = "/api/" + apiVersion
	}
	body, err := c.Get(ctx, root)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", apiVersion, err)
	}
	var list struct {
		Resources []struct {
			Name       string `json:"name"`
			Kind       string `json:"kind"`
			Namespaced bool   `json:"namespaced"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", false, err
	}
	for _, r := range list.Resources {
		if r.Kind == kind && !strings.Contains(r.Name, "/") {
			return root + "/" + r.Name, r.Namespaced, nil
		}
	}
	return "", false, fmt.Errorf("the server knows no %s in %s", kind, apiVersion)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (answer []byte, warnings []string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, err
	}
	if res.StatusCode < 300 {
		return answer, res.Header.Values("Warning"), nil
	}
	refusal := &Refusal{Status: res.StatusCode, Message: string(tail(answer))}
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		refusal.Message = status.Message
	}
	return nil, nil, refusal
}
