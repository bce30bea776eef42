package envoy

import (
	"bytes"
	"errors"
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// renderedHeader goes in front of every rendering.
const renderedHeader = `# Envoy's configuration for Gatehouse. Rendered from the route table and the
# settings; do not edit: change those and render again (gatehouse envoy render).
`

// YAML prints a bootstrap. The same bootstrap always gives the same bytes.
func YAML(b *bootstrapv3.Bootstrap) ([]byte, error) {
	// protojson varies its white space on purpose; the way through YAML takes
	// it out again and sorts the keys.
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("printing the bootstrap: %w", err)
	}
	body, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("printing the bootstrap: %w", err)
	}
	return append([]byte(renderedHeader), body...), nil
}

// ParseYAML reads a rendering back. Fields that Envoy's API does not have are
// errors.
func ParseYAML(data []byte) (*bootstrapv3.Bootstrap, error) {
	text, err := yaml.YAMLToJSONStrict(bytes.TrimSpace(data))
	if err != nil {
		return nil, fmt.Errorf("reading the bootstrap: %w", err)
	}
	b := new(bootstrapv3.Bootstrap)
	if err := protojson.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("reading the bootstrap: %w", err)
	}
	return b, nil
}

// validateDeep runs the rules of Envoy's API on a message and on what is packed
// inside it. ValidateAll alone takes an Any for an opaque string of bytes, which
// leaves out nearly all of a configuration.
func validateDeep(m proto.Message) error {
	var faults []error
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err))
		}
	}
	return errors.Join(append(faults, validatePacked(m.ProtoReflect())...)...)
}

func validatePacked(m protoreflect.Message) []error {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return []error{fmt.Errorf("unpacking %s: %w", packed.GetTypeUrl(), err)}
		}
		if err := validateDeep(inner); err != nil {
			return []error{err}
		}
		return nil
	}
	var faults []error
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					faults = append(faults, validatePacked(v.Message())...)
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				faults = append(faults, validatePacked(value.List().Get(i).Message())...)
			}
		default:
			faults = append(faults, validatePacked(value.Message())...)
		}
		return true
	})
	return faults
}
