package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/tuning"
)

// maxDepth bounds how deep lists and objects of a value may be nested.
const maxDepth = 16

// patch is the body of a request that changes settings: for each handler the
// attributes with their new values, null for those that are taken away.
type patch map[string]map[string]json.RawMessage

// changes gives the changes of a patch, by handler and attribute.
func (p patch) changes() ([]tuning.Change, error) {
	var list []tuning.Change
	for handler, attributes := range p {
		for attribute, raw := range attributes {
			value, err := literal(raw)
			if err != nil {
				return nil, Invalid(fmt.Errorf("%s.%s: %w", handler, attribute, err))
			}
			list = append(list, tuning.Change{Key: tuning.Key{Handler: handler, Attribute: attribute}, Value: value})
		}
	}
	slices.SortFunc(list, func(a, b tuning.Change) int {
		if c := strings.Compare(a.Handler, b.Handler); c != 0 {
			return c
		}
		return strings.Compare(a.Attribute, b.Attribute)
	})
	return list, nil
}

// literal gives the text of a JSON value in the configuration language, nil for
// null. A text is a literal there, whatever is in it: nothing of it is evaluated.
func literal(raw json.RawMessage) (*string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read value: %w", err)
	}
	if v == nil {
		return nil, nil //nolint:nilnil // null is a value of its own here
	}
	value, err := ctyValue(v, maxDepth)
	if err != nil {
		return nil, err
	}
	text := string(hclwrite.TokensForValue(value).Bytes())
	return &text, nil
}

// ctyValue gives a decoded JSON value as one of the configuration language.
func ctyValue(v any, depth int) (cty.Value, error) {
	if depth == 0 {
		return cty.NilVal, fmt.Errorf("the value is nested deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case bool:
		return cty.BoolVal(v), nil
	case string:
		return cty.StringVal(v), nil
	case json.Number:
		return ctyNumber(v)
	case []any:
		list := make([]cty.Value, len(v))
		for i, e := range v {
			var err error
			if list[i], err = ctyValue(e, depth-1); err != nil {
				return cty.NilVal, err
			}
		}
		return cty.TupleVal(list), nil
	case map[string]any:
		object := make(map[string]cty.Value, len(v))
		for name, e := range v {
			var err error
			if object[name], err = ctyValue(e, depth-1); err != nil {
				return cty.NilVal, err
			}
		}
		return cty.ObjectVal(object), nil
	}
	return cty.NilVal, errors.New("null stands for a whole setting only, not in a list or an object")
}

// maxDigits bounds a number, whose exponent would otherwise let a few bytes become
// many.
const maxDigits = 30

func ctyNumber(n json.Number) (cty.Value, error) {
	f, _, err := big.ParseFloat(n.String(), 10, 512, big.ToNearestEven)
	if err != nil || f.MantExp(nil) > 100 || f.MantExp(nil) < -100 || len(n) > maxDigits {
		return cty.NilVal, fmt.Errorf("%.40s is no number that a setting can have", n.String())
	}
	return cty.NumberVal(f), nil
}
