package authz

import (
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is what the ordinary decoder demands of the fields of one kind of message,
// so that the fast path can hold what it does not read to the same. It is made
// from the descriptors that the decoder itself goes by.
type shape struct {
	members []member // by number
}

type member struct {
	kind  kind
	below *shape // of a message
}

type kind uint8

const (
	unknown kind = iota // no such field
	number              // a varint
	text                // bytes that must be UTF-8
	octets
	message
	foreign // there is one, of a kind that is left to the ordinary path
)

// deepest is how far messages may nest in what the fast path takes. Envoy's own
// nest a few deep; metadata can go deeper.
const deepest = 16

// shapes are those of the messages on the way to what is read, and of an entry of
// a map of texts.
type shapes struct{ check, attributes, request, http, pairs *shape }

func newShapes() *shapes {
	made := map[protoreflect.FullName]*shape{}
	http := (&authv3.AttributeContext_HttpRequest{}).ProtoReflect().Descriptor()
	return &shapes{
		check:      shapeOf((&authv3.CheckRequest{}).ProtoReflect().Descriptor(), made),
		attributes: shapeOf((&authv3.AttributeContext{}).ProtoReflect().Descriptor(), made),
		request:    shapeOf((&authv3.AttributeContext_Request{}).ProtoReflect().Descriptor(), made),
		http:       shapeOf(http, made),
		pairs:      shapeOf(http.Fields().ByName("headers").Message(), made),
	}
}

func shapeOf(d protoreflect.MessageDescriptor, made map[protoreflect.FullName]*shape) *shape {
	if s, ok := made[d.FullName()]; ok {
		return s // messages may hold their own kind
	}
	s := &shape{}
	made[d.FullName()] = s
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		for len(s.members) <= int(f.Number()) {
			s.members = append(s.members, member{})
		}
		s.members[f.Number()] = memberOf(f, made)
	}
	return s
}

func memberOf(f protoreflect.FieldDescriptor, made map[protoreflect.FullName]*shape) member {
	switch f.Kind() { //nolint:exhaustive // the others are foreign
	case protoreflect.MessageKind:
		return member{kind: message, below: shapeOf(f.Message(), made)}
	case protoreflect.StringKind:
		return member{kind: text}
	case protoreflect.BytesKind:
		return member{kind: octets}
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.Int32Kind, protoreflect.Int64Kind,
		protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if !f.IsList() { // which may be packed or not
			return member{kind: number}
		}
	}
	return member{kind: foreign}
}
