package failopen_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/coretest"
)

// overHTTP is an answer in JSON as it goes over the wire.
func overHTTP(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// soundHTTP gives this answer to everything.
func soundHTTP(body string) func(testing.TB, net.Listener) {
	return func(tb testing.TB, l net.Listener) {
		tb.Helper()
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}))
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
		tb.Cleanup(s.Close)
	}
}

func webHook() backend {
	const reject, goesOn = `{"action":"reject"}`, `{"action":"continue"}`
	settings := func(network, address string) string {
		if network == "unix" {
			return fmt.Sprintf("url = \"http://judge.example.test/\"\nsocket = %q", address)
		}
		return fmt.Sprintf("url = \"http://%s/\"", address)
	}
	return backend{"http", overTCP(overHTTP(reject), overHTTP(goesOn), settings, soundHTTP(goesOn), map[coretest.Fault]string{
		coretest.FaultRefused: "connection refused",
		coretest.FaultHanging: "ask http://127.0.0.1:",
		coretest.FaultCut:     "ask http://127.0.0.1:",
		coretest.FaultGarbage: "ask http://127.0.0.1:",
	})}
}

// atAddress are the settings of a handler that has an address.
func atAddress(network, address string) string {
	return fmt.Sprintf("address = %q", network+":"+address)
}

func rspamd() backend {
	const reject = `{"is_skipped":false,"score":20.0,"required_score":15.0,"action":"reject","symbols":{}}`
	const noAction = `{"is_skipped":false,"score":0.0,"required_score":15.0,"action":"no action","symbols":{}}`
	return backend{"rspamd", overTCP(overHTTP(reject), overHTTP(noAction), atAddress, soundHTTP(noAction), map[coretest.Fault]string{
		coretest.FaultRefused: "connection refused; check that rspamd runs",
		coretest.FaultHanging: "rspamd hangs, or the time limit is too short",
		coretest.FaultCut:     "rspamd at tcp:127.0.0.1:",
		coretest.FaultGarbage: "rspamd at tcp:127.0.0.1:",
	})}
}

// said is a packet of a milter's.
func said(code wire.ActionCode, data []byte) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))) + string(code) + string(data)
}

// agreed is how a milter begins that answers nothing but the end of the message.
func agreed() string {
	const silent = wire.OptNoConnReply | wire.OptNoHeloReply | wire.OptNoMailReply | wire.OptNoRcptReply | wire.OptNoDataReply |
		wire.OptNoUnknownReply | wire.OptNoHeaderReply | wire.OptNoEOHReply | wire.OptNoBodyReply
	b := binary.BigEndian.AppendUint32(nil, 6)
	b = binary.BigEndian.AppendUint32(b, 0)
	return said('O', binary.BigEndian.AppendUint32(b, uint32(silent)))
}

func milter() backend {
	return backend{"milter", overTCP(agreed()+said('r', nil), agreed()+said('c', nil), atAddress, soundMilter, map[coretest.Fault]string{
		coretest.FaultRefused: "connection refused; check that it runs",
		coretest.FaultHanging: "it hangs, or the time limit is too short",
		coretest.FaultCut:     "the milter at tcp:127.0.0.1:",
		coretest.FaultGarbage: "the milter at tcp:127.0.0.1:",
	})}
}

// soundMilter takes every message.
func soundMilter(tb testing.TB, l net.Listener) {
	tb.Helper()
	serve(tb, l, func(conn net.Conn) {
		for {
			var header [5]byte
			if _, err := io.ReadFull(conn, header[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(header[:]))-1); err != nil {
				return
			}
			answer := ""
			switch header[4] {
			case 'O':
				answer = agreed()
			case 'E':
				answer = said('c', nil)
			case 'Q':
				return
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	})
}
