package smtp

import (
	"errors"
	"fmt"
	"io"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// What the listener says itself, whatever its chain would.
var (
	loginFirst = mail.NewReply(530, 7, 0, "Authentication required")
	tlsFirst   = mail.NewReply(530, 7, 0, "Must issue a STARTTLS command first")
	tooMany    = mail.NewReply(452, 5, 3, "Too many recipients, send the message again to the others")
)

// reception is a message on trial: a session without a client.
type reception struct {
	session session
	in      *intake
	size    int64
}

// Encrypts tells that a client comes over TLS: where it must from the first byte on,
// and wherever it has logged in, since that is offered over TLS alone.
func (l *Listener) Encrypts(loggedIn bool) bool { return loggedIn || l.TLS == tlsImplicit }

// Receive takes a message in for a trial, as DATA would. It is bounded by
// max_message_size, like any other.
func (l *Listener) Receive(content io.Reader) (core.Reception, error) {
	if err := l.Start(); err != nil { // no server may have run yet
		return nil, err
	}
	r := &reception{session: session{listener: l, esmtp: true}}
	r.in = r.session.newIntake()
	part := make([]byte, 32<<10)
	for !r.in.drowned() {
		n, err := content.Read(part)
		r.in.write(part[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.in.close()
			return nil, fmt.Errorf("read message: %w", err)
		}
	}
	r.size = r.in.seen
	return r, nil
}

// Size is the length of what came in.
func (r *reception) Size() int64 { return r.size }

// Mail refuses who must log in or use TLS first, and a message whose declared size
// is too much.
func (r *reception) Mail(tx *mail.Transaction) mail.Verdict {
	l := r.session.listener
	switch {
	case l.TLS == tlsRequired && tx.Session.TLS == nil:
		return mail.Reject(tlsFirst, "the listener requires TLS")
	case l.Auth == authRequired && tx.Session.User == "":
		return mail.Reject(loginFirst, "the listener requires a login")
	case r.size > int64(l.MaxMessageSize):
		return mail.Reject(tooLarge, fmt.Sprintf("message of more than max_message_size = %s", l.MaxMessageSize))
	default:
		return mail.Verdict{}
	}
}

// Rcpt refuses one recipient too many.
func (r *reception) Rcpt(tx *mail.Transaction) mail.Verdict {
	if most := r.session.listener.MaxRecipients; len(tx.Envelope.Recipients) >= most {
		return mail.Defer(tooMany, fmt.Sprintf("more than max_recipients = %d", most))
	}
	return mail.Verdict{}
}

// Data judges the message by the listener's own rules.
func (r *reception) Data(tx *mail.Transaction) mail.Verdict {
	r.session.mail, r.session.tx = *tx.Session, tx
	return r.session.take(r.in)
}

// Close frees the message.
func (r *reception) Close() error {
	r.in.close()
	return nil
}

var _ core.Receiver = (*Listener)(nil)
