package rspamd

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// block is a block of the handler in the file.
func block(address any, settings ...string) string {
	return fmt.Sprintf("rspamd {\naddress = %q\n%s\n}", fmt.Sprint(address), strings.Join(settings, "\n"))
}
