package catalog_test

import (
	"errors"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// Names that are files of some machines, and no zones of the IANA, are refused on every machine.
func TestLoadZone(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "GB", "EST5EDT", "Etc/GMT+5", "America/Argentina/Ushuaia"} {
		if zone, err := catalog.LoadZone(name); err != nil || zone.String() != name {
			t.Errorf("%s: %v, %v", name, zone, err)
		}
	}
	for _, name := range []string{
		"", "Local", "localtime", "Factory", "posixrules", "right/UTC", "right/Europe/Berlin", "posix/Europe/Berlin",
		"europe/berlin", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "UTC\x00",
	} {
		var field *catalog.FieldError
		if zone, err := catalog.LoadZone(name); !errors.As(err, &field) || field.Field != "timezone" {
			t.Errorf("%q: %v, %v; want an error of the field timezone", name, zone, err)
		}
	}
}
