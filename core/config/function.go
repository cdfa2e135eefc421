package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// functionNames are the functions, for suggestions.
var functionNames = append(slices.Sorted(maps.Keys(functions(Options{}))), "file")

// functions gives what expressions can call, but for file, which depends on the
// file that calls it. Errors of functions never quote an argument, since it may
// be a secret.
func functions(o Options) map[string]function.Function {
	all := map[string]function.Function{
		"env":           envFunction(o),
		"join":          stdlib.JoinFunc,
		"split":         stdlib.SplitFunc,
		"concat":        stdlib.ConcatFunc,
		"contains":      containsFunction,
		"cidr_contains": cidrContainsFunction,
		"matches":       matchesFunction(new(regexps)),
		"jsondecode":    jsonDecodeFunction,
	}
	for name, fn := range textFunctions {
		all[name] = textFunction(fn)
	}
	return all
}

// textFunctions are the functions from text to text.
var textFunctions = map[string]func(string) string{
	"trimspace": strings.TrimSpace,
	"lower":     strings.ToLower,
	"upper":     strings.ToUpper,
	"domain_of": domainOf,
}

// textFunction lifts a function from text to text.
func textFunction(fn func(string) string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(fn(args[0].AsString())), nil
		},
	})
}

// domainOf gives the part after the last @ in lower case, "" without one.
func domainOf(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(address[i+1:])
}

// envFunction gives env(name, default?).
func envFunction(o Options) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String, AllowMarked: true}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String, AllowMarked: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, errors.New("env takes a name and a default")
			}
			arg, marks := args[0].Unmark()
			name := arg.AsString()
			if value, ok := o.lookup(name); ok {
				return cty.StringVal(value).Mark(sensitive), nil
			}
			if len(args) == 2 {
				return args[1].WithMarks(marks), nil
			}
			if o.Offline {
				return cty.UnknownVal(cty.String).Mark(sensitive), nil
			}
			if len(marks) > 0 {
				return cty.NilVal, errors.New("the environment variable that is named here is not set; its name is a secret and is not shown")
			}
			return cty.NilVal, fmt.Errorf("the environment variable %s is not set; set it, or give a default: env(%q, \"…\")", name, name)
		},
	})
}

// fileFunction gives file(name), the text of a file relative to dir.
func fileFunction(o Options, dir string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "name", Type: cty.String, AllowMarked: true}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			arg, marks := args[0].Unmark()
			name := arg.AsString()
			if o.Offline {
				return cty.UnknownVal(cty.String).Mark(sensitive), nil
			}
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			content, err := o.read(name, maxFile)
			if path, ok := errors.AsType[*fs.PathError](err); ok {
				err = path.Err
			}
			if err == nil && !utf8.Valid(content) {
				err = errors.New("it is not a text in UTF-8")
			}
			if err != nil && len(marks) > 0 {
				return cty.NilVal, fmt.Errorf("cannot read the file that is named here: %w; its name is a secret and is not shown", err)
			}
			if err != nil {
				return cty.NilVal, fmt.Errorf("cannot read %s: %w", name, err)
			}
			return cty.StringVal(string(content)).Mark(sensitive), nil
		},
	})
}

// containsFunction gives contains(list, value).
var containsFunction = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "list", Type: cty.DynamicPseudoType},
		{Name: "value", Type: cty.DynamicPseudoType},
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		if t := args[0].Type(); t.IsPrimitiveType() {
			return cty.NilType, function.NewArgErrorf(0, "a list is needed")
		}
		return cty.Bool, nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if !args[0].IsWhollyKnown() {
			return cty.UnknownVal(cty.Bool), nil
		}
		for it := args[0].ElementIterator(); it.Next(); {
			if _, item := it.Element(); item.RawEquals(args[1]) {
				return cty.True, nil
			}
		}
		return cty.False, nil
	},
})

// cidrContainsFunction gives cidr_contains(network, address); the network may be
// an address alone. What is no address is in no network; a client without one
// gives "".
var cidrContainsFunction = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "network", Type: cty.String},
		{Name: "address", Type: cty.String, AllowUnknown: true},
	},
	Type: function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		network, err := parseNetwork(args[0].AsString())
		if _, ok := errors.AsType[*hostBitsError](err); ok {
			return cty.NilVal, function.NewArgErrorf(0, "the address has bits beyond the prefix length; write a network as \"192.0.2.0/24\", an address alone as \"192.0.2.1\"")
		}
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "a network is needed, such as \"192.0.2.0/24\", or an address")
		}
		if !args[1].IsKnown() {
			return cty.UnknownVal(cty.Bool), nil
		}
		return cty.BoolVal(inNetwork(network, args[1].AsString())), nil
	},
})

// matchesFunction gives matches(text, pattern) with RE2's syntax; the pattern
// may match any part of the text.
func matchesFunction(known *regexps) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "text", Type: cty.String, AllowUnknown: true},
			{Name: "pattern", Type: cty.String},
		},
		Type: function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			re, err := known.compile(args[1].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(1, "%v", err)
			}
			if !args[0].IsKnown() {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.BoolVal(re.MatchString(args[0].AsString())), nil
		},
	})
}

// regexps keeps compiled patterns. They come from the configuration only, which
// bounds their number.
type regexps struct{ compiled sync.Map }

// compile hides the pattern in its error, which regexp's own quotes.
func (r *regexps) compile(pattern string) (*regexp.Regexp, error) {
	if re, ok := r.compiled.Load(pattern); ok {
		return re.(*regexp.Regexp), nil
	}
	re, err := regexp.Compile(pattern)
	if wrong, ok := errors.AsType[*syntax.Error](err); ok {
		return nil, fmt.Errorf("not a regular expression: %s", wrong.Code)
	}
	if err != nil {
		return nil, errors.New("not a regular expression")
	}
	r.compiled.Store(pattern, re)
	return re, nil
}

// jsonDecodeFunction gives jsondecode(text).
var jsonDecodeFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if !args[0].IsKnown() {
			return cty.DynamicPseudoType, nil
		}
		t, err := ctyjson.ImpliedType([]byte(args[0].AsString()))
		if err != nil {
			return cty.NilType, jsonError(err)
		}
		return t, nil
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		value, err := ctyjson.Unmarshal([]byte(args[0].AsString()), t)
		if err != nil {
			return cty.NilVal, jsonError(err)
		}
		return value, nil
	},
})

func jsonError(err error) error {
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		return function.NewArgErrorf(0, "not JSON from byte %d on", wrong.Offset)
	}
	return function.NewArgErrorf(0, "not JSON")
}
