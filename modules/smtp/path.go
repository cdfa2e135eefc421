package smtp

import (
	"bytes"
	"unicode/utf8"
)

// pathOf finds the path in the arguments of MAIL or RCPT: what stands between
// the angle brackets, or up to the first space where a client leaves them out.
// A source route is taken off (RFC 5321 appendix F.2). The second result is what
// follows the path, the parameters.
//
// go-smtp reads the path too, but gives it unquoted: from that,
// "a@b"@example.org and a@b@example.org look the same.
func pathOf(line []byte) (path, rest []byte) {
	_, arg, _ := bytes.Cut(line, []byte{':'})
	arg = bytes.TrimLeft(arg, " \t")
	bracket := len(arg) > 0 && arg[0] == '<'
	if bracket {
		arg = arg[1:]
	}
	path, rest = arg[:pathEnd(arg)], arg[pathEnd(arg):]
	if bracket && len(rest) > 0 && rest[0] == '>' {
		rest = rest[1:]
	}
	if len(path) > 0 && path[0] == '@' {
		_, path, _ = bytes.Cut(path, []byte{':'})
	}
	return path, bytes.TrimRight(rest, "\r\n")
}

// pathEnd gives the offset of the > or space that ends a path and does not stand
// in a quoted local-part.
func pathEnd(arg []byte) int {
	quoted := false
	for i := 0; i < len(arg); i++ {
		switch c := arg[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case c == '\r' || !quoted && (c == '>' || c == ' ' || c == '\t'):
			return i
		}
	}
	return len(arg)
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
