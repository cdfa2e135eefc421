package milter

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/mail"
)

// step is something that a milter is told.
type step struct {
	code   byte
	name   string
	skip   wire.OptProtocol // by which it says that it does not want to hear it
	silent wire.OptProtocol // by which it says that it has no answer
}

var (
	stepConnect = step{byte(wire.CodeConn), "connect", wire.OptNoConnect, wire.OptNoConnReply}
	stepHelo    = step{byte(wire.CodeHelo), "HELO", wire.OptNoHelo, wire.OptNoHeloReply}
	stepMail    = step{byte(wire.CodeMail), "MAIL", wire.OptNoMailFrom, wire.OptNoMailReply}
	stepRcpt    = step{byte(wire.CodeRcpt), "RCPT", wire.OptNoRcptTo, wire.OptNoRcptReply}
	stepData    = step{byte(wire.CodeData), "DATA", wire.OptNoData, wire.OptNoDataReply}
	stepHeader  = step{byte(wire.CodeHeader), "header", wire.OptNoHeaders, wire.OptNoHeaderReply}
	stepEOH     = step{byte(wire.CodeEOH), "end of header", wire.OptNoEOH, wire.OptNoEOHReply}
	stepBody    = step{byte(wire.CodeBody), "body", wire.OptNoBody, wire.OptNoBodyReply}
)

// stepEnd is the end of the message, which a milter is always told.
const stepEnd = "end of message"

// teller tells a milter a transaction.
type teller struct {
	client *client
	host   *host
	tx     *mail.Transaction
}

// wants tells whether the milter wants to be told a step.
func (c *client) wants(s step) bool { return c.protocol&s.skip == 0 }

// answerTo awaits the answer to a step, if the milter gives one.
func (c *client) answerTo(s step) (answer, error) {
	if c.protocol&s.silent != 0 {
		return goOn(s.name), nil
	}
	return c.answer(s.name)
}

// macros sends names and values of macros for a step. Those without a value are left
// out. They are sent also where the step itself is not, as Postfix does.
func (c *client) macros(code byte, list ...string) {
	known := make([]string, 0, len(list))
	for i := 0; i+1 < len(list); i += 2 {
		if list[i+1] != "" {
			known = append(known, list[i], list[i+1])
		}
	}
	if len(known) > 0 {
		c.sendStrings(byte(wire.CodeMacro), []byte{code}, known...)
	}
}

// tell tells a step of some strings.
func (t *teller) tell(s step, list ...string) (answer, error) {
	if !t.client.wants(s) {
		return goOn(s.name), nil
	}
	t.client.sendStrings(s.code, nil, list...)
	return t.client.answerTo(s)
}

// unknown stands for a name that nobody has found out, as in Postfix.
const unknown = "unknown"

// envelope tells the session up to MAIL.
func (t *teller) envelope() (answer, error) {
	for _, tell := range [...]func() (answer, error){t.connect, t.helo, t.mail} {
		if a, err := tell(); err != nil || a.final() {
			return a, err
		}
	}
	return goOn(stepMail.name), nil
}

func (t *teller) connect() (answer, error) {
	s := t.tx.Session
	remote := netip.AddrPortFrom(s.RemoteAddr.Addr().Unmap().WithZone(""), s.RemoteAddr.Port())
	name, family, address := unknown, wire.FamilyUnknown, ""
	macros := []string{"j", t.host.name, "{daemon_name}", t.daemon(), "v", "mox-like"}
	if remote.Addr().IsValid() {
		address = remote.Addr().String()
		if found := reverseName(t.tx); found != "" {
			name = found
		}
		if family = wire.FamilyInet; remote.Addr().Is6() {
			family = wire.FamilyInet6
		}
		macros = append(macros, "_", name+" ["+address+"]", "{client_addr}", address, "{client_name}", name, "{client_ptr}", name,
			"{client_port}", strconv.Itoa(int(remote.Port())))
	}
	if local := s.LocalAddr.Addr().Unmap().WithZone(""); local.IsValid() {
		macros = append(macros, "{daemon_addr}", local.String(), "{daemon_port}", strconv.Itoa(int(s.LocalAddr.Port())),
			"{if_addr}", local.String(), "{if_name}", t.host.name)
	}
	t.client.macros(stepConnect.code, macros...)
	if !t.client.wants(stepConnect) {
		return goOn(stepConnect.name), nil
	}
	data := append([]byte(name), 0, byte(family))
	if family != wire.FamilyUnknown {
		data = binary.BigEndian.AppendUint16(data, remote.Port())
		data = append(append(data, address...), 0)
	}
	t.client.send(stepConnect.code, data)
	return t.client.answerTo(stepConnect)
}

// daemon is {daemon_name}.
func (t *teller) daemon() string {
	if t.host.daemon != "" {
		return t.host.daemon
	}
	return t.tx.Session.Listener
}

// reverseName gives the client's name that a handler has found by its address and
// confirmed (the method iprev, RFC 8601 section 3), "" if none has.
func reverseName(tx *mail.Transaction) string {
	r, ok := tx.AuthResult("iprev")
	if !ok || r.Result != "pass" {
		return ""
	}
	name, err := mail.ParseDomain(r.Reason)
	if err != nil || name[0] == '[' {
		return ""
	}
	return name
}

func (t *teller) helo() (answer, error) {
	if state := t.tx.Session.TLS; state != nil {
		t.client.macros(stepHelo.code, "{tls_version}", strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1),
			"{cipher}", tls.CipherSuiteName(state.CipherSuite), "{cipher_bits}", cipherBits(state.CipherSuite))
	}
	if t.tx.Session.Helo == "" {
		return goOn(stepHelo.name), nil
	}
	return t.tell(stepHelo, t.tx.Session.Helo)
}

// cipherBits is the length of a cipher suite's key, "" where its name does not say.
func cipherBits(suite uint16) string {
	name := tls.CipherSuiteName(suite)
	switch {
	case strings.Contains(name, "AES_128"):
		return "128"
	case strings.Contains(name, "AES_256"), strings.Contains(name, "CHACHA20"):
		return "256"
	default:
		return ""
	}
}

func (t *teller) mail() (answer, error) {
	e := &t.tx.Envelope
	from := e.ReversePath.String()
	macros := []string{"i", t.tx.ID, "b", t.host.now().Format(time.RFC1123Z), "{mail_addr}", from, "{mail_host}", e.ReversePath.Domain}
	if from != "" {
		macros = append(macros, "{mail_mailer}", t.mailer(e.ReversePath))
	}
	if user := t.tx.Session.User; user != "" {
		// Which mechanism it was is not kept; milters ask only whether there was one.
		macros = append(macros, "{auth_authen}", user, "{auth_type}", "SASL")
	}
	t.client.macros(stepMail.code, macros...)
	arguments := []string{"<" + from + ">"}
	if e.Size > 0 {
		arguments = append(arguments, "SIZE="+strconv.FormatInt(e.Size, 10))
	}
	if e.SMTPUTF8 {
		arguments = append(arguments, "SMTPUTF8")
	}
	return t.tell(stepMail, arguments...)
}

// mailer is what Sendmail calls the way to an address.
func (t *teller) mailer(a mail.Address) string {
	if t.host.local(a.Domain) {
		return "local"
	}
	return "esmtp"
}

func (t *teller) rcpt(r *mail.Recipient) (answer, error) {
	to := r.Address.String()
	t.client.macros(stepRcpt.code, "i", t.tx.ID, "{rcpt_addr}", to, "{rcpt_host}", r.Address.Domain, "{rcpt_mailer}", t.mailer(r.Address))
	a, err := t.tell(stepRcpt, "<"+to+">")
	if a.refuses() {
		a.step += " of " + to
	}
	return a, err
}

// content tells the message up to the end of its body.
func (t *teller) content(s *section, m *mail.Message) (answer, error) {
	t.client.macros(stepData.code, "i", t.tx.ID)
	if a, err := t.tell(stepData); err != nil || a.final() {
		return a, err
	}
	if a, err := t.header(s); err != nil || a.final() {
		return a, err
	}
	t.client.macros(stepEOH.code, "i", t.tx.ID)
	if a, err := t.tell(stepEOH); err != nil || a.final() {
		return a, err
	}
	return t.body(io.MultiReader(bytes.NewReader(s.stray), m.OpenBody()))
}

// maxToldName bounds the name of a field, which is on one line of at most 998 bytes
// (RFC 5322 section 2.1.1) unless somebody wants to see what happens.
const maxToldName = 998

// header tells the fields, but for the server's own Received field. A field that does
// not fit into a packet is cut: libmilter closes the connection at a longer one, and a
// message with such a field would get past the milter by on_error.
func (t *teller) header(s *section) (answer, error) {
	if !t.client.wants(stepHeader) {
		return goOn(stepHeader.name), nil
	}
	for _, f := range s.fields {
		if f.own {
			continue
		}
		name := f.name[:min(len(f.name), maxToldName)]
		value := f.told(t.client.leading())
		value = value[:min(len(value), wire.MaxBodyChunk-len(name)-2)]
		t.client.sendStrings(stepHeader.code, nil, name, value)
		if a, err := t.client.answerTo(stepHeader); err != nil || a.final() {
			return a, err
		}
	}
	return goOn(stepHeader.name), nil
}

// body tells the body in chunks.
func (t *teller) body(body io.Reader) (answer, error) {
	c := t.client
	for c.wants(stepBody) {
		chunk, err := readChunk(body, c.chunk[:])
		if err != nil {
			return answer{}, fmt.Errorf("%w: read message: %w", errLocal, err)
		}
		if len(chunk) == 0 {
			break
		}
		c.send(stepBody.code, chunk)
		a, err := c.answerTo(stepBody)
		if err != nil || a.final() {
			return a, err
		}
		if a.action == wire.ActSkip {
			break
		}
	}
	return goOn(stepBody.name), nil
}

// readChunk reads what comes next, and nothing at the end.
func readChunk(r io.Reader, into []byte) ([]byte, error) {
	n, err := io.ReadFull(r, into)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return into[:n], err
}

// end tells the end of the message, and reads the changes that the milter wants and
// its decision.
func (t *teller) end(changes *changes) (answer, error) {
	t.client.macros(byte(wire.CodeEOB), "i", t.tx.ID)
	t.client.send(byte(wire.CodeEOB))
	for {
		p, err := t.client.receive(stepEnd)
		if err != nil {
			return answer{}, err
		}
		if !isChange(p.code) {
			return t.client.decision(stepEnd, p)
		}
		if err := changes.read(p); err != nil {
			return answer{}, err
		}
	}
}
