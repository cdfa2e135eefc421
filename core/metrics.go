package core

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

// Metrics answers with the server's figures in the text format of Prometheus.
// Their labels are names of the file and words of this program, never what a
// stranger sends, so that nobody outside can make new ones.
func (s *Server) Metrics() http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(
		&collector{server: s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		ErrorHandling:       promhttp.ContinueOnError, // one family that is wrong hides no other
	})
}

// collector reads the counts when somebody asks; nothing is counted twice for it.
type collector struct{ server *Server }

// series is a family of metrics.
type series struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) series {
	return series{prometheus.NewDesc("mox_like_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) series {
	return series{prometheus.NewDesc("mox_like_"+name, help, labels, nil), prometheus.GaugeValue}
}

func (m series) send(ch chan<- prometheus.Metric, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

var (
	connectionsOpen    = gauge("connections_open", "Clients that are connected now.", "listener", "protocol")
	connectionsEntered = counter("connections_total", "Clients that have connected.", "listener", "protocol")
	connectionsRefused = counter("connections_refused_total", "Clients for which there was no place.", "listener", "protocol")

	traced      = counter("records_total", "Messages, logins and refused sessions, by how they ended.", "kind", "listener", "outcome")
	tracedBytes = counter("message_bytes_total", "Sizes of the messages, by how they ended.", "listener", "outcome")

	verdicts      = counter("verdicts_total", "What handlers said.", "listener", "handler", "module", "stage", "verdict")
	handlerErrors = counter("handler_errors_total", "How often a handler gave no verdict.", "listener", "handler", "module")
	handlerPassed = counter("handler_passed_total", "How often a handler gave no verdict and that let mail pass.", "listener", "handler", "module")
	handlerFails  = gauge("handler_failing", "1 from an error of the handler to its next verdict.", "listener", "handler", "module")
	handlerRests  = gauge("breaker_open", "1 while the handler rests after repeated errors.", "listener", "handler", "module")
	handlerTime   = prometheus.NewDesc("mox_like_handler_seconds", "How long handlers took.", []string{"listener", "handler", "module"}, nil)

	storeGroups  = counter("store_transactions_total", "Transactions that were committed.")
	storeWrites  = counter("store_writes_total", "Writes that they held.")
	storeDropped = counter("store_dropped_total", "Writes behind for which there was no room.")
	storeWaiting = gauge("store_waiting", "Writes that wait now.")
	storeBatch   = prometheus.NewDesc("mox_like_store_batch_size", "How many writes a transaction held.", nil, nil)

	dnsLookups  = counter("dns_lookups_total", "Names that were looked up.")
	dnsHits     = counter("dns_cache_hits_total", "Look-ups that the cache has answered.")
	dnsQueries  = counter("dns_queries_total", "Questions that were sent to servers.")
	dnsFailures = counter("dns_failures_total", "Questions that no server answered.")
	dnsSeconds  = counter("dns_seconds_total", "What the answers took together.")
	dnsOutage   = gauge("dns_outage", "1 while no name server answers.")
	dnsEntries  = gauge("dns_cache_entries", "Answers in the cache.")

	rowsRemoved = counter("rows_removed_total", "Old rows that were removed.", "module")
)

// Describe sends nothing: the families depend on the modules of the build.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads all counts.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	r := c.server.host()
	if r == nil {
		return
	}
	for name, value := range r.sharedValues() {
		if counter, ok := value.(*connections.Counter); ok {
			protocol, listener, _ := strings.Cut(name, ".connections.")
			open, entered, refused := counter.Numbers()
			connectionsOpen.send(ch, float64(open), listener, protocol)
			connectionsEntered.send(ch, float64(entered), listener, protocol)
			connectionsRefused.send(ch, float64(refused), listener, protocol)
		}
	}
	for key, sums := range r.traces.Counts() {
		traced.send(ch, float64(sums.Records), string(key.Kind), key.Listener, key.Action)
		if sums.Size > 0 {
			tracedBytes.send(ch, float64(sums.Size), key.Listener, key.Action)
		}
	}
	for _, h := range r.health() {
		h.collect(ch)
	}
	for _, d := range c.server.CleanUps() {
		rowsRemoved.send(ch, float64(d.Total), d.Module)
	}
	c.store(ch, r)
	c.resolver(ch, r.resolver.Stats())
	c.modules(ch, r)
}

func (c *collector) resolver(ch chan<- prometheus.Metric, s dns.Stats) {
	dnsLookups.send(ch, float64(s.Lookups))
	dnsHits.send(ch, float64(s.Hits))
	dnsQueries.send(ch, float64(s.Queries))
	dnsFailures.send(ch, float64(s.Failures))
	dnsSeconds.send(ch, s.Duration.Seconds())
	dnsOutage.send(ch, oneIf(!s.Outage.Since.IsZero()))
	dnsEntries.send(ch, float64(s.Entries))
}

func (h *HandlerHealth) collect(ch chan<- prometheus.Metric) {
	for stage := range h.Verdicts {
		for action, n := range h.Verdicts[stage] {
			if n > 0 {
				verdicts.send(ch, float64(n), h.Listener, h.Handler, h.Module, mail.Stage(stage).String(), mail.Action(action).String())
			}
		}
	}
	handlerErrors.send(ch, float64(h.Errors), h.Listener, h.Handler, h.Module)
	handlerPassed.send(ch, float64(h.Passed), h.Listener, h.Handler, h.Module)
	handlerFails.send(ch, oneIf(h.Failing), h.Listener, h.Handler, h.Module)
	handlerRests.send(ch, oneIf(h.Resting), h.Listener, h.Handler, h.Module)
	buckets := make(map[float64]uint64, len(chain.Buckets))
	var below uint64
	for i, bound := range chain.Buckets {
		below += h.Buckets[i]
		buckets[bound.Seconds()] = below
	}
	ch <- prometheus.MustNewConstHistogram(handlerTime, h.Calls, h.Duration.Seconds(), buckets, h.Listener, h.Handler, h.Module)
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (c *collector) store(ch chan<- prometheus.Metric, r *runtime) {
	s := r.store.Stats()
	storeGroups.send(ch, float64(s.Groups))
	storeWrites.send(ch, float64(s.Writes))
	storeDropped.send(ch, float64(s.Dropped))
	storeWaiting.send(ch, float64(s.Waiting))
	buckets := make(map[float64]uint64, len(s.Sizes))
	var below uint64
	for i, n := range s.Sizes {
		below += n
		buckets[float64(uint64(1)<<i)] = below
	}
	ch <- prometheus.MustNewConstHistogram(storeBatch, s.Groups, float64(s.Writes), buckets)
}

// modules sends the figures that modules have of their own, of the first
// instance of each.
func (c *collector) modules(ch chan<- prometheus.Metric, r *runtime) {
	for module, figures := range r.figures(c.server.modules()) {
		for _, f := range figures {
			kind := prometheus.GaugeValue
			if strings.HasSuffix(f.Name, "_total") {
				kind = prometheus.CounterValue
			}
			desc := prometheus.NewDesc("mox_like_"+module+"_"+f.Name, f.Help, nil, nil)
			ch <- prometheus.MustNewConstMetric(desc, kind, f.Value)
		}
	}
}

// figures asks one instance of each module that has figures, by the name of the
// module. A service and a handler of one name have theirs together.
func (r *runtime) figures(modules []*instance) map[string][]Figure {
	asked := make(map[string]bool)
	all := make(map[string][]Figure)
	for _, i := range slices.Concat(r.started, modules) {
		info := i.module.Module()
		m, ok := i.module.(Measurer)
		if !ok || asked[info.ID] || i.off {
			continue
		}
		asked[info.ID] = true
		all[info.Name()] = append(all[info.Name()], m.Measure()...)
	}
	return all
}
