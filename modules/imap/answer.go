package imap

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// capabilities say what is offered (RFC 9051 section 6.1.1).
type capabilities struct {
	mechanisms []string
	startTLS   bool
	// appendLimit is the largest message of an APPEND (RFC 7889).
	appendLimit int64
}

// always are the capabilities that hold in every state.
const always = "IMAP4rev1 SASL-IR LITERAL- ID"

// afterLogin are those that a client can use once it has logged in. IMAP4rev2
// and UTF8=ACCEPT are not among them: imapserver writes names with & wrongly
// when they are enabled. LITERAL+ would gain nothing over LITERAL-.
const afterLogin = " ENABLE IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS" +
	" SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE BINARY APPENDLIMIT="

// list gives the CAPABILITY data for a state.
func (c capabilities) list(secured, authed bool) string {
	var b strings.Builder
	b.WriteString("CAPABILITY " + always)
	switch {
	case authed:
		b.WriteString(afterLogin + strconv.FormatInt(c.appendLimit, 10))
	case secured:
		for _, m := range c.mechanisms {
			b.WriteString(" AUTH=" + m)
		}
	default:
		if c.startTLS {
			b.WriteString(" STARTTLS")
		}
		b.WriteString(" LOGINDISABLED")
	}
	return b.String()
}

// forServer are the commands that imapserver serves. All others are answered by
// the fence, so that an unknown command never gets its text parsed.
var forServer = map[string]bool{
	"APPEND": true, "AUTHENTICATE": true, "CHECK": true, "CLOSE": true, "COPY": true, "CREATE": true, "DELETE": true,
	"EXAMINE": true, "EXPUNGE": true, "FETCH": true, "IDLE": true, "LIST": true, "LOGIN": true, "LSUB": true,
	"MOVE": true, "NAMESPACE": true, "NOOP": true, "RENAME": true, "SEARCH": true, "SELECT": true, "STATUS": true,
	"STORE": true, "SUBSCRIBE": true, "UNSELECT": true, "UNSUBSCRIBE": true,
	"UID COPY": true, "UID EXPUNGE": true, "UID FETCH": true, "UID MOVE": true, "UID SEARCH": true, "UID STORE": true,
}

// answers serve the commands that need no mailbox. NOOP is among them as long
// as nobody has logged in.
var answers = map[string]func(*fence, request) error{
	"CAPABILITY": (*fence).answerCapability,
	"ENABLE":     (*fence).answerEnable,
	"ID":         (*fence).answerID,
	"LOGOUT":     (*fence).answerLogout,
	"NOOP":       (*fence).answerNoop,
	"STARTTLS":   (*fence).answerStartTLS,
}

func isLogin(name string) bool { return name == "LOGIN" || name == "AUTHENTICATE" }

// permit refuses what cannot be served in this state, before the client is asked
// for any literal: its password above all.
func (f *fence) permit(r request) *refusal {
	_, lit := cutAnnouncement(r.args)
	_, local := answers[r.name]
	login := isLogin(r.name)
	switch {
	case !local && !forServer[r.name]:
		return &refusal{status: "BAD [CLIENTBUG] Unknown command", open: lit}
	case login && !f.secured:
		return &refusal{status: "NO [PRIVACYREQUIRED] Logging in needs TLS", open: lit}
	case login && f.authed, r.name == "STARTTLS" && f.secured:
		return &refusal{status: "BAD [CLIENTBUG] This was done already", open: lit}
	case !f.authed && (r.name == "ENABLE" || !local && !login):
		return &refusal{status: "BAD [CLIENTBUG] Log in first", open: lit}
	}
	return nil
}

// takesNothing answers a command that has arguments where it takes none.
func (f *fence) takesNothing(r request) bool {
	if len(bytes.TrimSpace(f.text[r.argsStart():])) == 0 {
		return true
	}
	f.out.status(r, "BAD [CLIENTBUG] "+r.name+" takes no arguments")
	return false
}

func (f *fence) answerCapability(r request) error {
	if f.takesNothing(r) {
		f.out.line("* " + f.caps.list(f.secured, f.authed))
		f.out.status(r, "OK CAPABILITY completed")
	}
	return nil
}

// answerEnable enables nothing, which is what RFC 5161 section 3.1 wants for
// capabilities that the server does not have.
func (f *fence) answerEnable(r request) error {
	if len(bytes.TrimSpace(f.text[r.argsStart():])) == 0 {
		f.out.status(r, "BAD [CLIENTBUG] ENABLE takes capabilities")
		return nil
	}
	f.out.line("* ENABLED")
	f.out.status(r, "OK ENABLE completed")
	return nil
}

// answerID tells who serves (RFC 2971), but not in which version.
func (f *fence) answerID(r request) error {
	args := bytes.TrimSpace(f.text[r.argsStart():])
	list := bytes.HasPrefix(args, []byte("(")) && bytes.HasSuffix(args, []byte(")"))
	if !list && !bytes.EqualFold(args, []byte("NIL")) {
		f.out.status(r, "BAD [CLIENTBUG] ID takes a list or NIL")
		return nil
	}
	f.out.line(`* ID ("name" "mox-like")`)
	f.out.status(r, "OK ID completed")
	return nil
}

func (f *fence) answerNoop(r request) error {
	if f.takesNothing(r) {
		f.out.status(r, "OK NOOP completed")
	}
	return nil
}

func (f *fence) answerLogout(r request) error {
	if !f.takesNothing(r) {
		return nil
	}
	f.out.line("* BYE Logging out")
	f.out.status(r, "OK LOGOUT completed")
	if err := f.out.flush(); err != nil {
		return err
	}
	f.out.mute()
	return io.EOF
}

// errStartTLS is returned when the client shall begin with TLS now.
var errStartTLS = errors.New("TLS begins")

// answerStartTLS lets TLS begin. What the client sent behind the command in the
// clear would otherwise count as sent under TLS (RFC 9051 section 6.2.1): it
// costs the session.
func (f *fence) answerStartTLS(r request) error {
	if !f.takesNothing(r) {
		return nil
	}
	if !f.caps.startTLS {
		f.out.status(r, "NO [UNAVAILABLE] This listener has no TLS")
		return nil
	}
	if f.in.Buffered() > 0 {
		f.out.status(r, "BAD [CLIENTBUG] Nothing may follow STARTTLS before TLS begins")
		f.hangUp("Data after STARTTLS")
		return nil
	}
	f.out.status(r, "OK Begin TLS now")
	if err := f.out.flush(); err != nil {
		return err
	}
	return errStartTLS
}
