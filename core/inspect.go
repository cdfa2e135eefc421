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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	var list []Listening
	for _, l := range s.current.listeners {
		one := Listening{Name: l.name, Kind: l.block.Label(0)}
		for _, address := range l.module.Sockets() {
			one.Addresses = append(one.Addresses, s.sockets[socketKey(l.name, address)].Addr())
		}
		list = append(list, one)
	}
	return list
}

// Logger gives the logger of a started server, for what its process has to say.
func (s *Server) Logger() *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}
