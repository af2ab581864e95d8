// Package web serves the pages of the dashboard from inside the binary.
//
// The pages are built by `make build` into dist (ignored by git) and embedded under the build tag webdist. Without the
// tag, so in tests and plain `go build`, Handler answers with one sentence that says how to get them: no Go command
// needs Node.
//
// Files come pre-compressed (.br, .gz beside each file) and are never compressed while answering. Names under /assets/
// contain a hash of their content and are cached for a year; everything else is revalidated by its ETag. Pages carry a
// content security policy that allows only what this server serves: no inline script, no other host.
package web
