package lint_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schema is a JSON Schema (draft 7), as far as those that are used here go; what it
// does not know it refuses, so that nothing is taken for checked that is not.
type schema struct {
	root map[string]any
}

func readSchema(t *testing.T, name string) schema {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

// validate gives what is wrong with a document.
func (s schema) validate(document []byte) []string {
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		return []string{err.Error()}
	}
	return s.check("$", s.root, v)
}

// silentWords say nothing about values.
var silentWords = []string{"$schema", "$id", "id", "title", "description", "default", "format", "definitions", "examples"}

func (s schema) check(at string, rule map[string]any, v any) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, at+": "+fmt.Sprintf(format, args...))
	}
	for word, want := range rule {
		switch word {
		case "$ref":
			faults = append(faults, s.check(at, s.find(want.(string)), v)...)
		case "type":
			if !slices.ContainsFunc(list(want), func(t any) bool { return isType(v, t.(string)) }) {
				fault("%v is no %v", v, want)
			}
		case "enum":
			if !slices.ContainsFunc(want.([]any), func(w any) bool { return reflect.DeepEqual(v, w) }) {
				fault("%v is none of %v", v, want)
			}
		case "const":
			if !reflect.DeepEqual(v, want) {
				fault("%v is not %v", v, want)
			}
		case "anyOf", "oneOf", "allOf":
			faults = append(faults, s.combine(at, word, want.([]any), v)...)
		case "not":
			if len(s.check(at, want.(map[string]any), v)) == 0 {
				fault("it is what it must not be")
			}
		case "dependencies", "dependentRequired":
			object, _ := v.(map[string]any)
			for name, needs := range want.(map[string]any) {
				for _, need := range list(needs) {
					if _, ok := object[name]; ok && object[need.(string)] == nil {
						fault("%s needs %v", name, need)
					}
				}
			}
		case "minimum", "maximum", "minLength", "pattern", "minItems", "uniqueItems", "items":
			faults = append(faults, s.bound(at, word, want, v)...)
		case "required", "properties", "additionalProperties", "minProperties":
			faults = append(faults, s.members(at, word, rule, v)...)
		default:
			if !slices.Contains(silentWords, word) {
				fault("the schema says %s, which is not known here", word)
			}
		}
	}
	return faults
}

func (s schema) combine(at, word string, rules []any, v any) (faults []string) {
	good := 0
	for _, r := range rules {
		found := s.check(at, r.(map[string]any), v)
		if len(found) == 0 {
			good++
		}
		faults = append(faults, found...)
	}
	if word == "anyOf" && good > 0 || word == "oneOf" && good == 1 || good == len(rules) && word == "allOf" {
		return nil
	}
	return append(faults, fmt.Sprintf("%s: %d of %s hold", at, good, word))
}

func (s schema) bound(at, word string, want, v any) (faults []string) {
	number, isNumber := v.(float64)
	text, isText := v.(string)
	items, isArray := v.([]any)
	bad := false
	switch word {
	case "minimum":
		bad = isNumber && number < want.(float64)
	case "maximum":
		bad = isNumber && number > want.(float64)
	case "minLength":
		bad = isText && len([]rune(text)) < int(want.(float64))
	case "pattern":
		bad = isText && !regexp.MustCompile(strings.ReplaceAll(want.(string), `\/`, "/")).MatchString(text)
	case "minItems":
		bad = isArray && len(items) < int(want.(float64))
	case "uniqueItems":
		for i := range items {
			bad = bad || slices.ContainsFunc(items[:i], func(other any) bool { return reflect.DeepEqual(items[i], other) })
		}
	case "items":
		for i, item := range items {
			faults = append(faults, s.check(fmt.Sprintf("%s[%d]", at, i), want.(map[string]any), item)...)
		}
	}
	if bad {
		faults = append(faults, fmt.Sprintf("%s: %v against %s %v", at, v, word, want))
	}
	return faults
}

func (s schema) members(at, word string, rule map[string]any, v any) (faults []string) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	known, _ := rule["properties"].(map[string]any)
	switch word {
	case "required":
		for _, name := range rule[word].([]any) {
			if _, ok := object[name.(string)]; !ok {
				faults = append(faults, fmt.Sprintf("%s: %s is missing", at, name))
			}
		}
	case "minProperties":
		if len(object) < int(rule[word].(float64)) {
			faults = append(faults, at+": it has too few properties")
		}
	case "properties":
		for name, value := range object {
			if r, ok := known[name]; ok {
				faults = append(faults, s.check(at+"."+name, r.(map[string]any), value)...)
			}
		}
	case "additionalProperties":
		for name, value := range object {
			if _, ok := known[name]; ok {
				continue
			}
			if r, ok := rule[word].(map[string]any); ok {
				faults = append(faults, s.check(at+"."+name, r, value)...)
			} else if rule[word] == false {
				faults = append(faults, fmt.Sprintf("%s: %s is not known", at, name))
			}
		}
	}
	return faults
}

// find follows a reference within the schema.
func (s schema) find(ref string) map[string]any {
	at := s.root
	for step := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = at[step].(map[string]any)
	}
	return at
}

func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

func isType(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	default:
		return name == "object"
	}
}
