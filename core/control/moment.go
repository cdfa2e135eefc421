package control

import (
	"encoding"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mox-like/mox-like/core/config"
)

// Moment is a parameter of the API: a time, or how long ago it was.
type Moment struct{ time.Time }

// UnmarshalText reads a time as RFC 3339 has it, or a duration as settings have it.
func (m *Moment) UnmarshalText(text []byte) error {
	if ago, err := config.ParseDuration(string(text)); err == nil && ago >= 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return errors.New("write a time as RFC 3339 has it, such as 2026-11-25T14:05:09Z, or how long ago it was, such as 2h or 7d")
	}
	m.Time = at
	return nil
}

// Schema describes the parameter.
func (Moment) Schema(huma.Registry) *huma.Schema {
	length := 64
	return &huma.Schema{Type: huma.TypeString, MaxLength: &length, Examples: []any{"2h"}}
}

// Interface guards.
var (
	_ encoding.TextUnmarshaler = (*Moment)(nil)
	_ huma.SchemaProvider      = Moment{}
)
