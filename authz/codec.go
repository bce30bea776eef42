package authz

import (
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// exchange is a check on its way through gRPC: the bytes that came, and those that
// go.
type exchange struct {
	asked    string
	answered []byte
}

// codec hands the bytes of checks over as they are. Every other message of the
// server, such as those of its health service, goes the way of all of gRPC.
type codec struct{ others encoding.CodecV2 }

func newCodec() codec { return codec{others: encoding.GetCodecV2(proto.Name)} }

func (c codec) Name() string { return c.others.Name() }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*exchange); ok {
		return mem.BufferSlice{mem.SliceBuffer(e.answered)}, nil
	}
	return c.others.Marshal(v)
}

// Unmarshal copies what came, because gRPC uses its buffers again: what is made of
// an exchange may be kept for as long as anybody likes.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	e, ok := v.(*exchange)
	if !ok {
		return c.others.Unmarshal(data, v)
	}
	var asked strings.Builder
	asked.Grow(data.Len())
	for _, b := range data {
		asked.Write(b.ReadOnlyData())
	}
	e.asked = asked.String()
	return nil
}
