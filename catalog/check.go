package catalog

// Check says what is not acceptable about a new noun by itself, as [Table.Create] would: a
// [FieldErrors], or nil. Whether what it refers to exists, and whether it is unique, it does not
// know. v gets its defaults. A nil opts means the defaults.
func Check[T Noun](v *T, opts *Options) error {
	if opts == nil {
		opts = &Options{}
	}
	r := asRecord(v)
	r.normalize()
	return r.check(rules{opts.AllowPrivateUpstreams}).err()
}
