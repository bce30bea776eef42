package envoy_test

import (
	"encoding/base64"
	enc "encoding/binary"
	"strings"
	"testing"

	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/envoy/routes"
)

// frame is a message as gRPC and gRPC-Web send it; flag 0x80 marks trailers.
func frame(flag byte, data []byte) string {
	head := enc.BigEndian.AppendUint32([]byte{flag}, uint32(len(data)))
	return string(head) + string(data)
}

func call(t *testing.T, text string) string {
	t.Helper()
	data, err := proto.Marshal(&grpc_testing.SimpleRequest{Payload: payload(text)})
	if err != nil {
		t.Fatal(err)
	}
	return frame(0, data)
}

// webHeaders are those of a browser at an allowed origin.
func webHeaders(contentType, token string) []string {
	return []string{"Content-Type: " + contentType, "Accept: " + contentType, "X-Grpc-Web: 1", "Origin: https://app.example", "Authorization: Bearer " + token, "X-User-ID: evil"}
}

func TestABrowserCallsAGRPCServiceByGRPCWeb(t *testing.T) {
	t.Parallel()
	u := startGRPCService(t)
	g := grpcGate(t, u, func(up *routes.Upstream) { up.GRPCWeb = true })
	const method = grpcPath + "/UnaryCall"

	preflight := g.do(t, "OPTIONS", method, "Origin: https://app.example",
		"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type,x-grpc-web,x-user-agent,grpc-timeout")
	if allowed := strings.ToLower(preflight.header.Get("Access-Control-Allow-Headers")); preflight.status != 200 ||
		preflight.header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
		!strings.Contains(allowed, "x-grpc-web") || !strings.Contains(allowed, "x-user-agent") || !strings.Contains(allowed, "grpc-timeout") || !strings.Contains(allowed, "authorization") {
		t.Errorf("preflight: %d %v", preflight.status, preflight.header)
	}

	for _, c := range []struct {
		name, contentType string
		encode            func(string) string
		decode            func(*testing.T, string) string
	}{
		{"binary", "application/grpc-web+proto", func(s string) string { return s }, func(_ *testing.T, s string) string { return s }},
		{"text", "application/grpc-web-text", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }, unbase64},
	} {
		got := g.send(t, "POST", method, strings.NewReader(c.encode(call(t, "ping"))), webHeaders(c.contentType, "allow")...)
		body := c.decode(t, got.body)
		if got.status != 200 || got.header.Get("Content-Type") != c.contentType && got.header.Get("Content-Type") != c.contentType+"+proto" ||
			!strings.Contains(body, "ping") || !strings.Contains(body, "grpc-status:0\r\n") || !strings.Contains(body, "x-late:trailer\r\n") {
			t.Errorf("%s: %d %v %q, want the message and the trailers behind it", c.name, got.status, got.header, body)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "Grpc-Status") {
			t.Errorf("%s: headers %v, want those of CORS", c.name, got.header)
		}
		if id := strings.Join(u.sent("x-user-id"), "|"); id != userID {
			t.Errorf("%s: the service saw the user %q", c.name, id)
		}

		refused := g.send(t, "POST", method, strings.NewReader(c.encode(call(t, "ping"))), webHeaders(c.contentType, "nope")...)
		if refused.status != 401 || refused.header.Get("Grpc-Status") != "16" || refused.header.Get("Grpc-Message") != detail("Not authenticated") ||
			refused.body != "" || refused.header.Get("Access-Control-Allow-Origin") != "https://app.example" {
			t.Errorf("%s: a refusal is %d %v %q, want 401, with status 16 in the headers", c.name, refused.status, refused.header, refused.body)
		}
	}
	other := g.send(t, "POST", "/api/v1/query/x", strings.NewReader("x"), webHeaders("application/grpc-web+proto", "allow")...)
	if got := other.echo(t).Header.Get("Content-Type"); got != "application/grpc-web+proto" {
		t.Errorf("a service without the option got %q, want what was sent", got)
	}
}

// TestWithoutTheOptionGRPCWebIsNotTranslated is what docs/routes.md says.
func TestWithoutTheOptionGRPCWebIsNotTranslated(t *testing.T) {
	t.Parallel()
	u := startGRPCService(t)
	g := grpcGate(t, u, nil)
	got := g.send(t, "POST", grpcPath+"/UnaryCall", strings.NewReader(call(t, "ping")), webHeaders("application/grpc-web+proto", "allow")...)
	if strings.Contains(got.body, "ping") || got.status != 415 {
		t.Errorf("%d %v %q, want the service's own refusal", got.status, got.header, got.body)
	}
	refused := g.send(t, "POST", grpcPath+"/UnaryCall", strings.NewReader(call(t, "ping")), webHeaders("application/grpc-web+proto", "nope")...)
	if refused.status != 401 || refused.body != detail("Not authenticated") {
		t.Errorf("a refusal is %d %q, want that of HTTP", refused.status, refused.body)
	}
	if allowed := strings.ToLower(g.do(t, "OPTIONS", "/x", "Origin: https://app.example", "Access-Control-Request-Method: POST").header.Get("Access-Control-Allow-Headers")); strings.Contains(allowed, "grpc") {
		t.Errorf("the preflight allows %q", allowed)
	}
}

// unbase64 reads pieces that were encoded one by one.
func unbase64(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	for len(text) > 0 {
		end := len(text)
		if i := strings.IndexByte(text, '='); i >= 0 {
			for end = i; end < len(text) && text[end] == '='; end++ {
			}
		}
		data, err := base64.StdEncoding.DecodeString(text[:end])
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		out.Write(data)
		text = text[end:]
	}
	return out.String()
}
