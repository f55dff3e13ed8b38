package tcli

// Thrift compiler 0.17.0. It writes into a folder named after the IDL's namespace, hence -out with the parent folder.
// The list<byte> it warns about is a fact of the protocol.

//go:generate thrift --gen go:skip_remote -out .. TCLIService.thrift
//go:generate gofmt -w TCLIService.go TCLIService-consts.go GoUnusedProtection__.go
