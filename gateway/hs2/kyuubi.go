package hs2

import (
	"fmt"
	"strings"

	"github.com/sluicedata/sluice/gateway/session"
)

// Kyuubi's driver asks for some things by a setting of the statement, beside a text that means nothing elsewhere.
const (
	kyuubiPrefix     = "kyuubi."
	kyuubiLanguage   = "kyuubi.operation.language"
	kyuubiGetCatalog = "kyuubi.operation.get.current.catalog"
	kyuubiSetCatalog = "kyuubi.operation.set.current.catalog"
)

// fromKyuubi returns what a statement of Kyuubi's driver means, and takes Kyuubi's settings, which are none of Spark's,
// out of the overlay.
func fromKyuubi(text string, overlay map[string]string) (string, error) {
	language := overlay[kyuubiLanguage]
	_, get := overlay[kyuubiGetCatalog]
	catalog, set := overlay[kyuubiSetCatalog]
	for k := range overlay {
		if strings.HasPrefix(k, kyuubiPrefix) {
			delete(overlay, k)
		}
	}
	switch {
	case language != "" && !strings.EqualFold(language, "SQL"):
		return "", &session.Failure{Class: "SLUICE_NOT_SUPPORTED", SQLState: "0A000",
			Message: fmt.Sprintf("%s: statements in %s cannot be run here: send SQL", kyuubiLanguage, language)}
	case get:
		return "SELECT current_catalog()", nil
	case set:
		return "SET CATALOG " + session.QuoteName(catalog), nil
	}
	return text, nil
}
