package core

import (
	"net"

	"go.uber.org/zap"
)

// Listening says where a listener listens.
type Listening struct {
	// Name is the listener's, Kind its module's.
	Name, Kind string
	// Addresses are those that the system gave, in the order of the file.
	Addresses []net.Addr
}

// Listening gives where the server listens, in the order of the file; nothing
// before Start and after Stop.
func (s *Server) Listening() []Listening {
	if run := s.inForce(); run != nil {
		return run.listening
	}
	return nil
}

// Addresses gives where a listener listens, in the order of its addresses.
func (s *Server) Addresses(listener string) []net.Addr {
	for _, l := range s.Listening() {
		if l.Name == listener {
			return l.Addresses
		}
	}
	return nil
}

// Logger gives the logger of a started server, for what its process has to say.
func (s *Server) Logger() *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Logger
}
