package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"
)

// TestPrintQR reads the drawn code back, module by module.
func TestPrintQR(t *testing.T) {
	t.Parallel()
	const text = "otpauth://totp/mx.example.test:alice@example.test?secret=JBSWY3DPEHPK3PXP&issuer=mx.example.test"
	code, err := qr.Encode(text, qr.L, qr.Auto)
	if err != nil {
		t.Fatal(err)
	}
	var drawn bytes.Buffer
	if err := printQR(&drawn, text); err != nil {
		t.Fatal(err)
	}
	const margin = 4
	lines := strings.Split(strings.TrimSuffix(drawn.String(), "\n"), "\n")
	size := code.Bounds().Dx()
	if want := (size + 2*margin + 1) / 2; len(lines) != want {
		t.Fatalf("%d lines, want %d", len(lines), want)
	}
	for y := range size {
		row := []rune(lines[(y+margin)/2])
		for x := range size {
			r, _, _, _ := code.At(x, y).RGBA()
			light := strings.ContainsRune([2]string{"█▀", "█▄"}[(y+margin)%2], row[x+margin])
			if light != (r != 0) {
				t.Fatalf("module %d, %d is drawn light: %t", x, y, light)
			}
		}
	}
}
