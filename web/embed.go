// Package web is the browser client: its TypeScript sources, their committed
// build, and the HTTP handler that serves it. The handler promises a strict
// content security policy and caching that survives upgrades; it answers for
// the pages and their assets only, never for the API. `npm run build` makes
// dist, and `make test` checks that dist is what the sources give.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// FS is the build: index.html and assets/ with the hash of their content in
// each name.
func FS() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // only for a path that is not valid, and this one is a constant
	}
	return sub
}
