// Package openapi holds the OpenAPI 3.1 document of the REST interface. mekong.json is generated from the protos
// (make generate) and embedded here, so that the server can serve it without files beside the binary.
package openapi

import _ "embed"

//go:embed mekong.json
var document string

// Document returns a copy of the document as JSON.
func Document() []byte { return []byte(document) }
