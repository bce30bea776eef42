package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	nodes "go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"
)

// source is a configuration that was read.
type source struct {
	root    proto.Message
	text    *nodes.Node // nil: no lines are known
	unknown [][2]string // paths and types of messages of a type that is not known here
	odd     string      // what the strict reader had against it
}

// read takes a bootstrap, a listener, an LDS, RDS or CDS answer, or a config
// dump, in YAML or JSON.
func read(data []byte) (*source, error) {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	top, ok := tree.(map[string]any)
	if !ok || len(top) == 0 {
		return nil, errors.New("reading the configuration: it is empty, or no mapping")
	}
	s := &source{}
	s.setAside(tree, "")
	has := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { _, ok := top[k]; return ok })
	}
	switch {
	case has("configs"):
		s.root = &adminv3.ConfigDump{}
	case has("resources"):
		s.root = &discoveryv3.DiscoveryResponse{}
	case has("filter_chains", "filterChains", "default_filter_chain", "defaultFilterChain"):
		s.root = &listenerv3.Listener{}
	default:
		s.root = &bootstrapv3.Bootstrap{}
	}
	text, err = json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if strict := protojson.Unmarshal(text, s.root); strict != nil {
		s.odd = fieldName(strict)
		proto.Reset(s.root)
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, s.root); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	var document nodes.Node
	if nodes.Load(data, &document) == nil && document.Kind == nodes.DocumentNode && len(document.Content) == 1 {
		s.text = document.Content[0]
	}
	return s, nil
}

var unknownField = regexp.MustCompile(`unknown field "[^"]*"`)

// fieldName is the part of protojson's error that means something to a reader;
// its positions are of another text than the file.
func fieldName(err error) string {
	if found := unknownField.FindString(err.Error()); found != "" {
		return found
	}
	return err.Error()
}

// setAside turns what is packed in a type that is not known here into a Struct,
// so that the rest can be read.
func (s *source) setAside(tree any, at string) {
	switch v := tree.(type) {
	case map[string]any:
		for key, value := range v {
			s.setAside(value, join(at, key))
		}
		url, ok := v["@type"].(string)
		if !ok {
			return
		}
		name := protoreflect.FullName(url[strings.LastIndex(url, "/")+1:])
		if _, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
			return
		}
		s.unknown = append(s.unknown, [2]string{at, string(name)})
		clear(v)
		v["@type"] = "type.googleapis.com/google.protobuf.Struct"
		v["value"] = map[string]any{}
	case []any:
		for i, item := range v {
			s.setAside(item, index(at, i))
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func index(at string, i int) string { return at + "[" + strconv.Itoa(i) + "]" }

// walk calls visit for every message with its path, those packed in an Any
// included, parents first.
func walk(m proto.Message, at string, visit func(m proto.Message, at string)) {
	if packed, ok := m.(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return
		}
		walk(inner, at, visit)
		return
	}
	if _, opaque := m.(*structpb.Struct); opaque {
		return
	}
	visit(m, at)
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		here := join(at, string(field.Name()))
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			keys := map[string]protoreflect.Message{}
			var names []string
			value.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				keys[k.String()] = v.Message()
				names = append(names, k.String())
				return true
			})
			slices.Sort(names)
			for _, name := range names {
				walk(keys[name].Interface(), here+"["+strconv.Quote(name)+"]", visit)
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				walk(value.List().Get(i).Message().Interface(), index(here, i), visit)
			}
		default:
			walk(value.Message().Interface(), here, visit)
		}
		return true
	})
}

var step = regexp.MustCompile(`\["((?:[^"\\]|\\.)*)"\]|\[([0-9]+)\]|([^.\[]+)`)

// line is where a path is in the file, or the nearest thing above it.
func (s *source) line(path string) int {
	n, line := s.text, 0
	for _, m := range step.FindAllStringSubmatch(path, -1) {
		if n != nil && n.Kind == nodes.AliasNode {
			n = n.Alias
		}
		if n == nil {
			break
		}
		var key, next *nodes.Node
		switch {
		case m[2] != "" && n.Kind == nodes.SequenceNode:
			if i, err := strconv.Atoi(m[2]); err == nil && i < len(n.Content) {
				next = n.Content[i]
				key = next
			}
		case n.Kind == nodes.MappingNode:
			name := m[1] + m[3]
			for i := 0; i+1 < len(n.Content); i += 2 {
				if k := n.Content[i].Value; k == name || k == camel(name) {
					key, next = n.Content[i], n.Content[i+1]
				}
			}
		}
		if next == nil {
			break
		}
		line, n = key.Line, next
	}
	if line == 0 && s.text != nil {
		line = s.text.Line
	}
	return line
}

// camel is a field's name as protobuf's JSON spells it.
func camel(name string) string {
	parts := strings.Split(name, "_")
	for i, p := range parts[1:] {
		if p != "" {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}
