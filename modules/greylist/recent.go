package greylist

// recent keeps what was changed lately, since the database may not have it yet.
// Whatever was put in stays for at least size further changes; then it is
// forgotten, and the database asked. It is not safe for concurrent use.
type recent[V any] struct {
	size       int
	young, old map[key]V
}

func newRecent[V any](size int) recent[V] {
	return recent[V]{size: size, young: make(map[key]V)}
}

func (r *recent[V]) get(k key) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

func (r *recent[V]) put(k key, v V) {
	if len(r.young) >= r.size {
		r.young, r.old = make(map[key]V), r.young
	}
	r.young[k] = v
}
