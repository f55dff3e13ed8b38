// Package storepb is the form of a worker's manifests, made from manifest.proto.
package storepb

//go:generate protoc --go_out=. --go_opt=paths=source_relative manifest.proto
