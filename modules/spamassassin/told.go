package spamassassin

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// readTold reads the answer to TELL: the status line, fields, and an empty line.
// DidSet and DidRemove name what was changed; without them spamd has learned nothing
// new. Other lines are not looked at.
func readTold(r io.Reader) (learned bool, err error) {
	in, err := readStatus(r)
	if refused, ok := errors.AsType[*refusal](err); ok && strings.Contains(refused.text, "--allow-tell") {
		return false, fmt.Errorf("%w; start spamd with --allow-tell (OPTIONS in /etc/default/spamd), or set learn = false", err)
	}
	if err != nil {
		return false, err
	}
	for range maxHead {
		line, err := readLine(in)
		if err != nil {
			return false, fmt.Errorf("read fields: %w", ended(err))
		}
		if line == "" {
			return learned, nil
		}
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "DidSet") || strings.EqualFold(name, "DidRemove") {
			learned = learned || strings.TrimSpace(value) != ""
		}
	}
	return false, fmt.Errorf("answer has more than %d fields", maxHead)
}
