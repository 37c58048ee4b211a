package catalog

import (
	"fmt"
	"time"
	_ "time/tzdata" // zones must not depend on the machine
)

const zoneRule = "must be the name of an IANA time zone, such as Europe/Berlin"

// LoadZone returns the time zone of an IANA name. It refuses names that only some machines have, or
// that mean another thing on each: Local, localtime, Factory, posixrules, and all below right/ (which
// count leap seconds) and posix/. The names of the IANA begin with a capital letter, and these files
// beside them, but for two, do not. The error is a [FieldError] of the field timezone.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name[0] < 'A' || name[0] > 'Z' || name == "Local" || name == "Factory" {
		return nil, &FieldError{Field: "timezone", Message: zoneRule}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not known here", &FieldError{Field: "timezone", Message: zoneRule})
	}
	return zone, nil
}
