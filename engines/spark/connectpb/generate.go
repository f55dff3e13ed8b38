// Package connectpb is generated from our own description of the part of Spark Connect's protocol that Sluice uses.
package connectpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative connect.proto
