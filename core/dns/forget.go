package dns

// Forget drops what is known of a name, so that the next look-up asks the servers:
// for operators who have just changed a record and want to see it. The servers
// that are asked have caches of their own.
func (r *Resolver) Forget(name string, t Type) {
	host, err := canonical(name)
	if err != nil {
		return
	}
	r.cache.forget(question{host, t})
}

// forget drops an answer.
func (c *cache) forget(q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[q]; ok {
		c.remove(element)
	}
}
