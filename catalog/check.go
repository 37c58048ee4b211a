package catalog

// Check says what is not acceptable about a new noun by itself, as [Table.Create] would: a
// [FieldErrors], or nil. It does not check tokens, nor whether the noun is unique, nor whether what
// it refers to exists. It sets the defaults of v. A nil opts means the defaults.
func Check[T Noun](v *T, opts *Options) error {
	if opts == nil {
		opts = &Options{}
	}
	r := asRecord(v)
	r.normalize()
	return r.check(rules{opts.AllowPrivateUpstreams}).err()
}
