package rspamd

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of the changes that rspamd may make to a header section.
const (
	maxChanges    = 100
	maxFieldName  = 76
	maxFieldValue = 16 << 10
	maxFieldLine  = 900 // bytes, so that with its name a line stays below the 998 of RFC 5322
)

// reservedFields are what this server itself writes about a message.
const reservedFields = "x-mox-like-"

// changes are those that rspamd's modules want made to the header section.
type changes struct {
	remove []removal  // by name
	add    []addition // in the order in which they stand, the first on top
	// left is the number of changes that are not made, since they are not fit for a
	// message.
	left int
}

// removal takes out fields of a name: all of them if place is 0, else the one at
// that place from the top, or from the end if it is negative.
type removal struct {
	name  string
	place int
}

// addition is a field to be added; order is where, from the top.
type addition struct {
	name, value string
	order       int
}

// values are what an object has for a name: one field or several.
type values []addition

// UnmarshalJSON takes a text, an object with value and order, or a list of such.
func (v *values) UnmarshalJSON(text []byte) error {
	list := []json.RawMessage{text}
	if bytes.HasPrefix(text, []byte("[")) {
		list = nil
		if err := json.Unmarshal(text, &list); err != nil {
			return err
		}
	}
	for _, one := range list {
		a := addition{order: maxChanges}
		var ok bool
		if a.value, ok = plainText(one); !ok {
			var raw struct {
				Value json.RawMessage `json:"value"`
				Order *float64        `json:"order"`
			}
			if err := json.Unmarshal(one, &raw); err != nil {
				return err
			}
			if a.value, ok = plainText(raw.Value); !ok {
				return fmt.Errorf("a field has no value: %.80q", one)
			}
			if raw.Order != nil && *raw.Order >= 0 && *raw.Order < maxChanges {
				a.order = int(*raw.Order)
			}
		}
		*v = append(*v, a)
	}
	return nil
}

// places are those of the fields of a name that go.
type places []int

// UnmarshalJSON takes a number or a list of numbers.
func (p *places) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("[")) {
		return json.Unmarshal(text, (*[]int)(p))
	}
	*p = make(places, 1)
	return json.Unmarshal(text, &(*p)[0])
}

// parseChanges reads what the modules want. A signature may come in both forms.
func parseChanges(milter map[string]json.RawMessage, signatures texts) (changes, error) {
	var added object[values]
	var removed object[places]
	for name, into := range map[string]any{"add_headers": &added, "remove_headers": &removed} {
		if raw, ok := milter[name]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return changes{}, fmt.Errorf("its %s are not of the right form: %s", name, mail.Printable(err.Error(), maxText))
			}
		}
	}
	var c changes
	for _, name := range slices.Sorted(maps.Keys(removed)) {
		for _, place := range removed[name] {
			if len(c.remove) < maxChanges && isFieldName(name) {
				c.remove = append(c.remove, removal{name, place})
			} else {
				c.left++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(added)) {
		for _, a := range added[name] {
			a.name = name
			c.append(a)
		}
	}
	for _, s := range signatures {
		c.append(addition{name: "DKIM-Signature", value: s})
	}
	slices.SortStableFunc(c.add, func(a, b addition) int { return cmp.Compare(a.order, b.order) })
	return c, nil
}

// append adds a field that is fit for it, once.
func (c *changes) append(a addition) {
	value, ok := fieldValue(a.value)
	if !ok || !isFieldName(a.name) || len(c.add) >= maxChanges {
		c.left++
		return
	}
	a.value = value
	same := func(o addition) bool { return strings.EqualFold(o.name, a.name) && o.value == a.value }
	if !slices.ContainsFunc(c.add, same) {
		c.add = append(c.add, a)
	}
}

// isFieldName tells whether rspamd may add and remove fields of a name (RFC 5322
// section 2.2).
func isFieldName(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return false
		}
	}
	reserved := len(name) >= len(reservedFields) && strings.EqualFold(name[:len(reservedFields)], reservedFields)
	return name != "" && len(name) <= maxFieldName && !reserved
}

// fieldValue makes a value one that cannot break out of its field: its line breaks
// become folds, and long lines are folded where there is a space. A value that is
// too long, or has a word that is, is not ok.
func fieldValue(text string) (value string, ok bool) {
	if len(text) > maxFieldValue {
		return "", false
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '\r' || c == '\n' }) {
		line = strings.TrimSpace(strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return '?'
			}
			return c
		}, strings.ToValidUTF8(line, "?")))
		for len(line) > maxFieldLine {
			at := strings.LastIndexAny(line[:maxFieldLine], " \t")
			if at <= 0 {
				return "", false
			}
			lines = append(lines, strings.TrimSpace(line[:at]))
			line = strings.TrimSpace(line[at:])
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\r\n\t"), true
}

// apply makes the changes to a message that rspamd was sent with the header section
// head.
func (c changes) apply(tx *mail.Transaction, head []byte) {
	var fields []placedField
	for _, r := range c.remove {
		if r.place == 0 {
			tx.RemoveHeaderFields(r.name)
			continue
		}
		if fields == nil {
			fields = placedFields(tx.Message.Header.Fields, head)
		}
		if index := find(fields, r); index >= 0 {
			tx.RemoveHeaderField(index)
		}
	}
	for _, a := range slices.Backward(c.add) {
		tx.AddHeaderField(a.name, a.value)
	}
}

// placedField is a field of the message as rspamd has seen it, and its index in the
// message as it came; -1 if this server has added it.
type placedField struct {
	name  string
	index int
}

// placedFields finds the fields of head among those of the message as it came.
// Head has those that were added, and below them those that came, without those
// that were removed.
func placedFields(came []mail.HeaderField, head []byte) []placedField {
	section := mail.SplitRendered(head)
	fields := make([]placedField, len(section.Fields))
	last := len(came) - 1
	for i, f := range slices.Backward(section.Fields) {
		at := last
		for at >= 0 && !bytes.Equal(bytes.TrimRight(came[at].Raw, "\r\n"), bytes.TrimRight(f.Raw, "\r\n")) {
			at--
		}
		if at >= 0 {
			last = at - 1
		}
		fields[i] = placedField{f.Name, at}
	}
	return fields
}

// find gives the index of the field that is to be removed, -1 if it is not there or
// this server's own.
func find(fields []placedField, r removal) int {
	var indexes []int
	for _, f := range fields {
		if strings.EqualFold(f.name, r.name) {
			indexes = append(indexes, f.index)
		}
	}
	at := r.place - 1
	if r.place < 0 {
		at = len(indexes) + r.place
	}
	if at < 0 || at >= len(indexes) {
		return -1
	}
	return indexes[at]
}
