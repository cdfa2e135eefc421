package dnstest

import (
	"encoding/binary"
	"net"
	"sync"

	miekg "github.com/miekg/dns"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/internal/zone"
)

// serve answers one message.
func (s *Server) serve(w miekg.ResponseWriter, query *miekg.Msg) {
	if len(query.Question) != 1 {
		return
	}
	_, isTCP := w.RemoteAddr().(*net.TCPAddr)
	q := query.Question[0]
	fault, held := s.note(zone.Fold(q.Name), dns.Type(q.Qtype))
	if held != nil {
		<-held
	}
	reply := s.answer(query)
	switch fault {
	case Silence:
		return
	case ServFail:
		reply = refuse(query, miekg.RcodeServerFailure)
		if opt := reply.IsEdns0(); opt != nil {
			opt.Option = append(opt.Option, &miekg.EDNS0_EDE{InfoCode: miekg.ExtendedErrorCodeNetworkError, ExtraText: "test"})
		}
	case Refused:
		reply = refuse(query, miekg.RcodeRefused)
	case NoEDNS:
		if query.IsEdns0() != nil {
			reply = new(miekg.Msg).SetRcode(query, miekg.RcodeFormatError)
			reply.Question = nil
		}
	case Truncated, Cut:
		if !isTCP {
			reply.Truncated, reply.Answer, reply.Ns = true, nil, nil
		} else if fault == Cut {
			s.cut(w, reply)
			return
		}
	case Garbage:
		_, _ = w.Write([]byte{0xff, 0, 0xff, 0, 1})
		return
	case WrongID, WrongQuestion, WrongSource, Flood:
		if !isTCP {
			forge(w, query, fault)
		}
	case None:
	}
	if !isTCP {
		reply.Truncate(udpSize(query))
	}
	// A client that has gone needs no answer.
	_ = w.WriteMsg(reply)
}

// note counts a question and gives what shall go wrong with it.
func (s *Server) note(name string, t dns.Type) (Fault, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range []question{{name, t}, {name, 0}, {Every, t}, {Every, 0}} {
		s.questions[q]++
	}
	fault, ok := s.faults[name]
	if !ok {
		fault = s.faults[Every]
	}
	held, ok := s.holds[name]
	if !ok {
		held = s.holds[Every]
	}
	return fault, held
}

// answer makes the reply that the zone has.
func (s *Server) answer(query *miekg.Msg) *miekg.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := new(miekg.Msg).SetReply(query)
	reply.RecursionAvailable = true
	reply.AuthenticatedData = s.authentic
	withEDNS(reply, query)
	s.zone.Fill(reply)
	return reply
}

func refuse(query *miekg.Msg, rcode int) *miekg.Msg {
	reply := new(miekg.Msg).SetRcode(query, rcode)
	withEDNS(reply, query)
	return reply
}

// withEDNS answers in EDNS who asks in it.
func withEDNS(reply, query *miekg.Msg) {
	if query.IsEdns0() != nil {
		reply.SetEdns0(uint16(udpSize(query)), true)
	}
}

// udpSize is how long an answer by UDP may be.
func udpSize(query *miekg.Msg) int {
	if opt := query.IsEdns0(); opt != nil {
		return int(opt.UDPSize())
	}
	return miekg.MinMsgSize
}

// forge sends answers that no client may believe.
func forge(w miekg.ResponseWriter, query *miekg.Msg, f Fault) {
	forged := new(miekg.Msg).SetReply(query)
	name := query.Question[0].Name
	header := miekg.RR_Header{Name: name, Rrtype: query.Question[0].Qtype, Class: miekg.ClassINET, Ttl: 3600}
	switch header.Rrtype {
	case miekg.TypeA:
		forged.Answer = []miekg.RR{&miekg.A{Hdr: header, A: net.ParseIP(Forged)}}
	case miekg.TypeTXT:
		forged.Answer = []miekg.RR{&miekg.TXT{Hdr: header, Txt: []string{Forged}}}
	}
	switch f {
	case WrongQuestion:
		forged.Question[0].Name = "other." + name
	case WrongSource:
		fromElsewhere(w.RemoteAddr(), forged)
		return
	case Flood:
		for range 100 {
			forged.Id++
			_ = w.WriteMsg(forged)
		}
		return
	default:
		forged.Id++
	}
	_ = w.WriteMsg(forged)
}

// fromElsewhere sends a message from another port than that of the server.
func fromElsewhere(to net.Addr, m *miekg.Msg) {
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		return
	}
	defer conn.Close()
	if packet, err := m.Pack(); err == nil {
		_, _ = conn.Write(packet)
	}
}

// cut sends half of an answer by TCP and ends the connection.
func (s *Server) cut(w miekg.ResponseWriter, reply *miekg.Msg) {
	packet, err := reply.Pack()
	if err != nil {
		return
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	if conn, ok := s.conns.Load(w.RemoteAddr().String()); ok {
		_, _ = conn.(net.Conn).Write(framed[:len(framed)/2])
	}
	_ = w.Close()
}

// tracked is a listener that remembers its connections, since a ResponseWriter
// writes whole messages only.
type tracked struct {
	net.Listener
	conns *sync.Map // from the client's address to the net.Conn
}

func (l tracked) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.conns.Store(conn.RemoteAddr().String(), conn)
	}
	return conn, err
}
